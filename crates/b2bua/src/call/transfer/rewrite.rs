//! The identities inside a REFER, turned from the names one leg knows into those of the other (RFC 3515, 3891, 3892).
//! Owns the orientation of tags and the rule that whatever does not name this gateway stays byte for byte. Pure:
//! refuses to know calls, tables and flows.
//!
//! ```text
//!    A                      Umbra                      B
//!    │ ta ── dialog a ── ga │ gb ── dialog b ── tb     │      g: our tags, t: those of the far ends
//!    │      Call-ID ca      │     Call-ID cb           │
//!
//!  B names, in a REFER of another call,       and the other leg of that call carries
//!   1. the far end of dialog b (= A):          cb;to-tag=gb;from-tag=tb  ─►  ca;to-tag=ta;from-tag=ga
//!      "call A and take my place"              URI: our Contact          ─►  A's Contact
//!   2. its own end of dialog b (= B):          cb;to-tag=tb;from-tag=gb  ─►  ca;to-tag=ga;from-tag=ta
//!      "call me and take A's place"            URI: anything             ─►  our Contact on leg A
//! ```
//!
//! `to-tag` is always the tag of whoever receives the INVITE (RFC 3891 §6.1). What A calls in case 1 is A's own far
//! end, past this gateway; in case 2 the INVITE comes back here and takes leg A over.

use std::net::IpAddr;

use bytes::Bytes;
use sip::uri::{escape_header_value, unescape};
use sip::{Dialog, HeaderId, Host, Message, NameAddr, Replaces, Scheme, Uri};

use crate::policy::Gateway;

/// Which end of a dialog of ours a Replaces means.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// Our end: the to-tag is ours. What stands behind it is the other leg.
    Ours,
    /// The peer's own end.
    Theirs,
}

/// A dialog of this gateway that somebody named, as the other leg of its call knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counterpart {
    /// The Replaces to write.
    pub replaces: Replaces,
    /// What our own address in the URI stands for.
    pub target: Bytes,
}

impl Counterpart {
    /// See the drawing; `dialog` and `contact` belong to the other leg of the call that was named.
    pub fn of(named: &Replaces, meant: Meant, dialog: &Dialog, contact: &[u8]) -> Self {
        let (to_tag, from_tag) = match meant {
            Meant::Ours => (dialog.remote_tag.clone(), dialog.local_tag.clone()),
            Meant::Theirs => (dialog.local_tag.clone(), dialog.remote_tag.clone()),
        };
        let target = match meant {
            Meant::Ours => dialog.remote_target.clone(),
            Meant::Theirs => bare(contact),
        };
        let replaces =
            Replaces { call_id: dialog.call_id.clone(), to_tag, from_tag, early_only: named.early_only };
        Self { replaces, target }
    }
}

/// A Contact of ours without its angle brackets.
pub(crate) fn bare(contact: &[u8]) -> Bytes {
    let inner = contact.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">"));
    Bytes::copy_from_slice(inner.unwrap_or(contact))
}

/// What a REFER asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub to: NameAddr,
    /// The dialog its URI names.
    pub replaces: Option<Replaces>,
}

impl Asked {
    /// RFC 3515 §2.4.1: exactly one Refer-To.
    pub fn read(refer: &Message) -> Result<Self, &'static str> {
        let mut values = refer.values_bytes(HeaderId::ReferTo);
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err("a REFER has exactly one Refer-To");
        };
        let to = NameAddr::parse_one(value).map_err(|_| "the Refer-To is no address")?;
        let replaces = match to.uri.header(HeaderId::Replaces) {
            Some(value) => Some(Replaces::parse(&value).map_err(|_| "the Replaces in it is malformed")?),
            None => None,
        };
        Ok(Self { to, replaces })
    }
}

/// The Refer-To as the other leg gets it; `None` when not a byte of it changes. `target` is what our own address means
/// there.
pub(crate) fn refer_to(
    asked: &Asked,
    gateway: &Gateway,
    target: &Bytes,
    counterpart: Option<&Counterpart>,
) -> Option<Bytes> {
    let uri = &asked.to.uri;
    let target = counterpart.map_or(target, |known| &known.target);
    let is_ours = is_ours(uri, gateway);
    // Case 2 of the drawing: the URI is the peer's own, which the other leg cannot be expected to reach.
    let is_own = counterpart.is_some_and(|known| is_address_of(&known.target, gateway));
    if !is_ours && counterpart.is_none() {
        return None;
    }
    let mut out = match is_ours || is_own {
        true => stands_for(uri, target).to_vec(),
        false => without_headers(uri).to_vec(),
    };
    let headers = uri.headers_raw();
    if !headers.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&rewritten_headers(headers, counterpart));
    }
    Some(asked.to.with_uri(&out))
}

fn is_address_of(uri: &Bytes, gateway: &Gateway) -> bool {
    Uri::parse(uri.clone()).is_ok_and(|uri| is_ours(&uri, gateway))
}

fn rewritten_headers(headers: &[u8], counterpart: Option<&Counterpart>) -> Vec<u8> {
    let is_replaces = |field: &[u8]| {
        let name = field.split(|byte| *byte == b'=').next().unwrap_or_default();
        HeaderId::from_name(&unescape(name)) == HeaderId::Replaces
    };
    let fields = headers.split(|byte| *byte == b'&').map(|field| match counterpart {
        Some(known) if is_replaces(field) => {
            [&b"Replaces="[..], &escape_header_value(&known.replaces.to_bytes())].concat()
        }
        _ => field.to_vec(),
    });
    fields.collect::<Vec<_>>().join(&b'&')
}

/// A URI without the headers behind its `?`.
pub(crate) fn without_headers(uri: &Uri) -> Bytes {
    let raw = uri.raw();
    match uri.headers_raw().len() {
        0 => raw.clone(),
        headers => raw.slice(..raw.len().saturating_sub(headers + 1)),
    }
}

/// Our own address, read by the other leg: the far end itself, or that user at the far end's host.
pub(crate) fn stands_for(uri: &Uri, target: &Bytes) -> Bytes {
    let (Some(user), Ok(far)) = (uri.user(), Uri::parse(target.clone())) else { return target.clone() };
    let scheme: &[u8] = if far.scheme() == Scheme::Sips { b"sips:" } else { b"sip:" };
    let mut out = [scheme, user, b"@", far.host_str().as_bytes()].concat();
    if let Some(port) = far.port() {
        out.extend_from_slice(format!(":{port}").as_bytes());
    }
    let ways: [&[u8]; 2] = [b"transport", b"maddr"];
    let is_way = |name: &[u8]| ways.iter().any(|way| way.eq_ignore_ascii_case(name));
    let kept = uri.params().filter(|(name, _)| !is_way(name));
    for (name, value) in kept.chain(far.params().filter(|(name, _)| is_way(name))) {
        out.push(b';');
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    out.into()
}

/// Whether a URI points at this gateway.
pub(crate) fn is_ours(uri: &Uri, gateway: &Gateway) -> bool {
    if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
        return false;
    }
    let ports = [gateway.tcp_port, gateway.tls_port, gateway.udp_port];
    let is_port = uri.port().is_none_or(|port| ports.contains(&Some(port)));
    let has = |address: IpAddr| gateway.advertised == address || gateway.addresses.contains(&address);
    let is_host = match uri.host() {
        Host::Name(name) => name.trim_end_matches('.').eq_ignore_ascii_case(&gateway.fqdn),
        Host::V4(address) => has(address.into()),
        Host::V6(address) => has(address.into()),
    };
    is_port && is_host
}

/// The Referred-By for the other leg: a referrer that names itself by its Contact, or us, gets the name the other leg
/// knows it by (RFC 3892 leaves all others to the referrer). `None` when nothing changes.
pub(crate) fn referred_by(
    value: Bytes,
    gateway: &Gateway,
    referrer: &Dialog,
    other: &Dialog,
) -> Option<Bytes> {
    let by = NameAddr::parse_one(value).ok()?;
    let is_contact = without_headers(&by.uri) == referrer.remote_target;
    if !is_contact && !is_ours(&by.uri, gateway) {
        return None;
    }
    let known = NameAddr::parse_one(other.local_uri.clone()).ok()?;
    Some(by.with_uri(known.uri.raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaces(text: &str) -> Replaces {
        Replaces::parse(text.as_bytes()).unwrap()
    }

    fn dialog() -> Dialog {
        let request = "INVITE sip:x@umbra.contoso.com SIP/2.0\r\nVia: SIP/2.0/TLS h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=ta\r\n\
            To: <sip:b@h>\r\nCall-ID: ca@h\r\nCSeq: 7 INVITE\r\nContact: <sip:dana@pool01.contoso.com:5067;transport=tls>\r\n\r\n";
        let request = Message::parse(Bytes::from(request), &sip::Limits::default()).unwrap();
        Dialog::uas(&request, Bytes::from_static(b"ga")).unwrap()
    }

    fn asked(refer_to: &str) -> Asked {
        let text = format!(
            "REFER sip:x SIP/2.0\r\nVia: SIP/2.0/TLS h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 7 REFER\r\nRefer-To: {refer_to}\r\n\r\n"
        );
        Asked::read(&Message::parse(Bytes::from(text), &sip::Limits::default()).unwrap()).unwrap()
    }

    fn written(refer_to_text: &str, counterpart: Option<&Counterpart>) -> Option<String> {
        let policy = crate::engine::tests::policy::secured();
        let target = Bytes::from_static(b"sip:dana@pool01.contoso.com:5067;transport=tls");
        let out = refer_to(&asked(refer_to_text), &policy.gateway, &target, counterpart)?;
        Some(String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn the_to_tag_stays_the_tag_of_whoever_receives_the_invite() {
        let ours = Counterpart::of(
            &replaces("cb;to-tag=gb;from-tag=tb;early-only"),
            Meant::Ours,
            &dialog(),
            b"<sip:u>",
        );
        assert_eq!(&ours.replaces.to_bytes()[..], b"ca@h;to-tag=ta;from-tag=ga;early-only");
        assert_eq!(&ours.target[..], b"sip:dana@pool01.contoso.com:5067;transport=tls");
        let theirs =
            Counterpart::of(&replaces("cb;to-tag=tb;from-tag=gb"), Meant::Theirs, &dialog(), b"<sip:u>");
        assert_eq!(&theirs.replaces.to_bytes()[..], b"ca@h;to-tag=ga;from-tag=ta");
        assert_eq!(&theirs.target[..], b"sip:u");
    }

    #[test]
    fn an_address_of_ours_becomes_the_far_ends_and_every_other_one_stays() {
        for same in [
            "<sip:bob@contoso.com;user=phone>",
            "tel:+1425",
            "<sip:umbra.contoso.com:9999>",
            "<sip:x@10.0.0.9?Replaces=a%3Bto-tag%3D1%3Bfrom-tag%3D2>",
        ] {
            assert_eq!(written(same, None), None, "{same}");
        }
        let whole = written("\"A\" <sip:umbra.contoso.com:5061;transport=tls>;x=1", None).unwrap();
        assert_eq!(whole, "\"A\"<sip:dana@pool01.contoso.com:5067;transport=tls>;x=1");
        let user =
            written("<sip:2001;phone-context=DP.x@10.0.0.1;user=phone;transport=tcp?Subject=a%20b>", None)
                .unwrap();
        assert_eq!(
            user,
            "<sip:2001;phone-context=DP.x@pool01.contoso.com:5067;user=phone;transport=tls?Subject=a%20b>"
        );
    }

    #[test]
    fn only_the_replaces_among_the_embedded_headers_is_written_anew() {
        let known = Counterpart::of(&replaces("cb;to-tag=gb;from-tag=tb"), Meant::Ours, &dialog(), b"");
        let out = written(
            "<sip:umbra.contoso.com?Subject=x&Replaces=cb%3Bto-tag%3Dgb%3Bfrom-tag%3Dtb&Priority=urgent>",
            Some(&known),
        );
        assert_eq!(
            out.as_deref(),
            Some(
                "<sip:dana@pool01.contoso.com:5067;transport=tls?Subject=x&Replaces=ca%40h%3Bto-tag%3Dta%3Bfrom-tag%3Dga&Priority=urgent>"
            )
        );
        let foreign_host =
            written("<sip:dana@contoso.com?Replaces=cb%3Bto-tag%3Dgb%3Bfrom-tag%3Dtb>", Some(&known));
        assert_eq!(
            foreign_host.as_deref(),
            Some("<sip:dana@contoso.com?Replaces=ca%40h%3Bto-tag%3Dta%3Bfrom-tag%3Dga>")
        );
    }
}
