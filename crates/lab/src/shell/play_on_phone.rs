//! Play on Phone: a Mailbox server calls its owner through the UM IP gateway and plays a message.

use std::time::Duration;

use super::lab_um::LabUm;
use super::{Caller, LabError, UmIpGateway, UmTransport};
use crate::frontend::{CallEnd, CallOutcome, CallSpec, CallerConfig, OfferShape, OnRefer};
use crate::um::{Allowed, MailboxServerConfig, PlanSecurity, UmReport};

/// Beyond the length of the message, for ringing and the way.
const CALL_MAX: Duration = Duration::from_secs(60);
const RATE: usize = crate::audio::RATE as usize;

/// What to play to whom.
#[derive(Clone, Debug)]
pub struct PlayOnPhone {
    /// Mailbox server that calls.
    pub server: String,
    /// Mailbox alias.
    pub mailbox: String,
    /// Call-ID of the call that left the message.
    pub message: String,
    /// Number or SIP address to call.
    pub to: String,
}

impl LabUm {
    /// Calls, plays and hangs up; the message counts as heard once it was answered.
    pub async fn play_on_phone(
        &self,
        order: &PlayOnPhone,
        gateway: &UmIpGateway,
    ) -> Result<CallOutcome, LabError> {
        let server = self.config.mailbox_servers.iter().find(|server| server.name == order.server);
        let server =
            server.ok_or_else(|| LabError::Config(format!("no server is called {}", order.server)))?;
        let spec = self.spec(order, server, gateway)?;
        let config = CallerConfig {
            fqdn: server.name.clone(),
            sip_domain: domain_of(&server.name).to_owned(),
            address: server.address,
            seed: self.next_seed(),
        };
        let failed = |why: crate::frontend::CallerError| LabError::Config(why.to_string());
        let target = self.target(&server.name, gateway)?;
        let caller = Caller::connect(config, target).await.map_err(failed)?;
        let outcome = caller.place_call(spec).await.map_err(failed);
        caller.close().await;
        let outcome = outcome?;
        if outcome.answered()
            && let Some(waiting) = self.directory.heard(&order.mailbox, &order.message)
        {
            let heard = UmReport::Heard { mailbox: order.mailbox.clone(), call_id: order.message.clone() };
            self.archive.take(&server.name, heard);
            self.archive.take(&server.name, UmReport::Waiting(waiting));
        }
        Ok(outcome)
    }

    fn spec(
        &self,
        order: &PlayOnPhone,
        server: &MailboxServerConfig,
        gateway: &UmIpGateway,
    ) -> Result<CallSpec, LabError> {
        let wrong = |why: &str| LabError::Config(format!("{}: {why}", order.mailbox));
        let mailbox = self.directory.mailbox(&order.mailbox).ok_or_else(|| wrong("no such mailbox"))?;
        if mailbox.policy.play_on_phone == Allowed::No {
            return Err(wrong("AllowPlayOnPhone is off"));
        }
        let message = self.directory.message(&order.mailbox, &order.message);
        let samples = message.ok_or_else(|| wrong("no such message"))?.samples();
        let domain = domain_of(&server.name);
        let shape = match self.directory.security_of(&order.mailbox).unwrap_or(server.security) {
            PlanSecurity::Secured => OfferShape::UmSecured,
            PlanSecurity::AsOffered if gateway.transport == UmTransport::Tls => OfferShape::UmSecured,
            _ => OfferShape::UmPlain,
        };
        Ok(CallSpec {
            shape,
            request_uri: self.directory.address_of(&order.to, &gateway.name),
            to: self.directory.address_of(&order.to, domain),
            from: mailbox.sip.clone().unwrap_or_else(|| format!("sip:{}@{domain}", mailbox.alias)),
            from_display: mailbox.alias.clone(),
            diversion: Vec::new(),
            headers: Vec::new(),
            talk: None,
            time_limit: CALL_MAX + Duration::from_secs((samples.len() / RATE) as u64),
            says: Some(samples.into()),
            presses: Vec::new(),
            on_refer: OnRefer::Refuse(603),
            end: CallEnd::HangUpAfterTalk,
        })
    }
}

fn domain_of(server: &str) -> &str {
    server.split_once('.').map_or(server, |(_, domain)| domain)
}
