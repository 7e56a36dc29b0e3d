//! The third leg of a transfer that is carried out here, before it exists: which URI the gateway may call, what protects
//! it, where the call's UM IP gateway listens, and the header set of its INVITE. Owns no state and sends nothing.

use std::net::IpAddr;

use bytes::Bytes;
use sip::{HeaderId, Message, Method, NameAddr, Scheme, Transport, Uri};

use super::Call;
use super::rewrite::{self, Asked, Counterpart};
use crate::call::Recovery;
use crate::codes;
use crate::engine::Target;
use crate::engine::core::Core;
use crate::headers::{self, ALLOW, Block};
use crate::leg::{Leg, Session};
use crate::policy::PeerAddress;
use crate::security::{self, Decision, Direction, MediaSecurity, Phase, Question, Said, Signalling};
use crate::verdict::Refusal;

/// Max-Forwards of a REFER that has none.
const MAX_FORWARDS: u32 = 70;
/// Behind the prefix of our Call-IDs: a call of this kind may come back, when the target diverts it to its mailbox.
pub(crate) const THIRD_LEG_MARK: &str = "t-";

impl Call {
    /// The Request-URI a Refer-To stands for, when the gateway may call it.
    pub(super) fn target_uri(
        &self,
        asked: &Asked,
        counterpart: Option<&Counterpart>,
    ) -> Result<Bytes, Refusal> {
        let uri = &asked.to.uri;
        let refuse = |what: &str| {
            let who = &self.b.peer.name;
            Err(Refusal::new(codes::TRANSFER_TARGET, who, format!("{who} transfers to {uri}: {what}")))
        };
        let is_tls = self.b_transport().is_secure();
        match uri.scheme() {
            Scheme::Sip | Scheme::Tel => {}
            Scheme::Sips if is_tls => {}
            Scheme::Sips => return refuse("sips without TLS"),
            Scheme::Other => return refuse("no sip, sips or tel URI"),
        }
        if uri.method().is_some_and(|method| method != Method::Invite) {
            return refuse("another method than INVITE");
        }
        let caller = self.a.dialog.as_ref().map(|dialog| dialog.remote_target.clone()).unwrap_or_default();
        let gateway = &self.policy.gateway;
        let target = match counterpart {
            _ if !rewrite::is_ours(uri, gateway) => rewrite::without_headers(uri),
            Some(known) => rewrite::stands_for(uri, &known.target),
            None => rewrite::stands_for(uri, &caller),
        };
        let leads_back = Uri::parse(target.clone()).is_ok_and(|target| rewrite::is_ours(&target, gateway));
        if target == caller || leads_back {
            return refuse("that is the caller, or this gateway");
        }
        Ok(target)
    }

    /// The call judged again for two ends of the gateway's side.
    pub(super) fn decide_target(
        &self,
        media: MediaSecurity,
        phase: Phase,
        transport: Signalling,
    ) -> Result<Decision, Refusal> {
        let said = Said { transport, media, direction: Direction::FromGateway, phase };
        match Question::of(&self.policy, self.route.ip_gateway, self.route.dial_plan, said) {
            // Both ends are the gateway's side.
            Some(question) => security::decide(&question).map(Decision::between_gateways),
            None => {
                Err(Refusal::new(codes::INTERNAL, &self.policy.gateway.fqdn, "the call's dial plan is gone"))
            }
        }
    }

    pub(super) fn third_leg(&self, cx: &mut Core) -> Leg {
        let transport = self.b_transport();
        let gateway = &self.policy.gateway;
        let port = if transport.is_secure() { gateway.tls_port } else { gateway.tcp_port };
        let prefix = format!("{}{THIRD_LEG_MARK}", cx.call_id_prefix);
        Leg {
            peer: self.a.peer.clone(),
            flow: None,
            call_id: cx.endpoint.new_call_id(prefix.as_bytes()),
            tag: cx.endpoint.new_tag(),
            contact: cx.contact(transport, port.unwrap_or(transport.default_port())),
            dialog: None,
            session: Session::default(),
            recovery: Recovery::No,
        }
    }

    /// Header set of the third leg's INVITE but CSeq and session timer.
    pub(super) fn third_set(
        &self,
        cx: &Core,
        refer: &Message,
        leg: &Leg,
        uri: &Bytes,
        counterpart: Option<&Counterpart>,
        asked: &Asked,
    ) -> Bytes {
        let caller = self.a.dialog.as_ref().map(|dialog| headers::without_tag(&dialog.remote_uri));
        let hops = refer.max_forwards().unwrap_or(MAX_FORWARDS).saturating_sub(1);
        let mut block = Block::default();
        block
            .header(HeaderId::MaxForwards, hops.to_string())
            .header(HeaderId::From, headers::with_tag(&caller.unwrap_or_default(), &leg.tag))
            .header(HeaderId::To, [&b"<"[..], uri, b">"].concat())
            .header(HeaderId::CallId, &leg.call_id)
            .header(HeaderId::Contact, &leg.contact)
            .header(HeaderId::Allow, ALLOW)
            .header(HeaderId::Supported, "replaces");
        // RFC 3892 §2.2: copied into the request that the REFER caused.
        if let Some(by) = refer.value_bytes(HeaderId::ReferredBy) {
            block.header(HeaderId::ReferredBy, without_cid(by));
        }
        let named = counterpart.map(|known| known.replaces.to_bytes());
        if let Some(replaces) = named.or_else(|| asked.replaces.as_ref().map(sip::Replaces::to_bytes)) {
            block.header(HeaderId::Replaces, replaces);
        }
        if let Some(name) = &cx.policy.gateway.correlation_header {
            block.line(name.as_bytes(), &self.a.call_id);
        }
        block.finish()
    }

    /// Where the call's UM IP gateway listens, when its address is configured.
    pub(super) fn target_place(&self) -> Option<Target> {
        let gateway = self.policy.ip_gateways.get(self.route.ip_gateway)?;
        let pool = self.policy.pool_of(self.route.ip_gateway);
        let address: IpAddr = match &gateway.address {
            PeerAddress::Ip(address) => *address,
            PeerAddress::Fqdn(_) => {
                *gateway.addresses.first().or(pool.and_then(|pool| pool.address.first()))?
            }
        };
        let transport: Transport = self.b_transport();
        Some(Target { name: gateway.address.to_string(), address, port: gateway.port, transport })
    }
}

/// The token it points to is a body part of the REFER, which does not go on (RFC 3892 §2.2).
fn without_cid(value: Bytes) -> Bytes {
    let Ok(by) = NameAddr::parse_one(value.clone()) else { return value };
    if by.param("cid").is_none() {
        return value;
    }
    let display = by.display.as_deref().unwrap_or_default();
    let mut out = [display, b"<", by.uri.raw(), b">"].concat();
    for (name, given) in by.params().filter(|(name, _)| !name.eq_ignore_ascii_case(b"cid")) {
        out.extend_from_slice(&[b";", name].concat());
        if let Some(given) = given {
            out.extend_from_slice(&[b"=", given].concat());
        }
    }
    out.into()
}
