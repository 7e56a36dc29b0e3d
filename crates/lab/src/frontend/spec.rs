//! What the Front End is to dial and say, and what came of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use crate::media::Key;
use crate::pki::Identity;
use crate::um::MediaKind;

/// Who the caller is.
#[derive(Clone, Debug)]
pub struct CallerConfig {
    /// FQDN in Via, Contact and Record-Route, e.g. `pool01.contoso.test`.
    pub fqdn: String,
    /// SIP domain of the users, e.g. `contoso.test`.
    pub sip_domain: String,
    /// Address to connect from and to receive media on.
    pub address: IpAddr,
    /// Seed of tags, branches and call ids: different callers need different seeds.
    pub seed: u64,
}

/// Whom to call.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    /// `None` = plain TCP.
    pub tls: Option<TlsTarget>,
}

/// TLS of a target.
#[derive(Clone, Debug)]
pub struct TlsTarget {
    /// Our certificate; `None` = present none.
    pub identity: Option<Identity>,
    /// Roots we trust.
    pub roots: Vec<CertificateDer<'static>>,
    /// Name the target's certificate must carry.
    pub expected_name: String,
}

/// Shape of the INVITE.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum OfferShape {
    /// Lync 2013: multipart/alternative, old ICE first; SRTP required.
    Lync2013Multipart,
    /// Skype for Business: one SDP with ICE v19; SRTP required.
    Lync2015,
    /// RTP/AVP with crypto lines (pool SupportEncryption).
    LyncOptional,
    /// RTP/AVP without crypto (pool DoNotSupportEncryption).
    LyncNone,
    /// IP-PBX: short RTP/AVP offer, quoted Diversion.
    PbxTcp,
    /// IP-PBX without SDP in the INVITE; the offer comes in 200, the answer goes in ACK.
    LateOffer,
    /// A call that a Mailbox server places under a plan with SRTP.
    UmSecured,
    /// The same with RTP.
    UmPlain,
}

/// When the caller starts to talk.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum TalkStart {
    /// When the beep was heard and is over.
    AfterBeep,
    /// This long after the answer.
    AfterAnswer(Duration),
}

/// A tone to send.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Talk {
    /// Frequency in Hz.
    pub hz: f64,
    /// Level in dBFS (of the sine's root mean square).
    pub level_dbfs: f64,
    /// How long.
    pub lasts: Duration,
    /// When.
    pub start: TalkStart,
}

/// Keys to press, one after the other.
#[derive(Clone, Debug)]
pub struct Presses {
    /// This long after the answer.
    pub after: Duration,
    /// Which.
    pub keys: Vec<Key>,
}

impl Presses {
    /// The keys in a text, this long after the answer.
    pub fn at(after: Duration, text: &str) -> Self {
        Presses { after, keys: crate::media::keys(text) }
    }
}

/// What the caller makes of a REFER.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum OnRefer {
    /// Takes it, and says by NOTIFY that the target answered.
    #[default]
    Follow,
    /// Takes it, and says by NOTIFY that the target refused with this status.
    Fail(u16),
    /// Refuses it with this status.
    Refuse(u16),
}

/// How the caller ends the call.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum CallEnd {
    /// BYE this long after the answer.
    HangUpAfter(Duration),
    /// BYE when everything was said.
    HangUpAfterTalk,
    /// CANCEL this long after the INVITE (BYE if answered meanwhile).
    CancelAfter(Duration),
    /// Wait until the other side hangs up.
    WaitForBye,
}

/// One call to place.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// Shape of the INVITE.
    pub shape: OfferShape,
    /// Request-URI, e.g. `sip:ken@contoso.test;opaque=app:voicemail`.
    pub request_uri: String,
    /// URI in To; empty = the Request-URI without parameters.
    pub to: String,
    /// URI in From, e.g. `sip:dana@contoso.test`.
    pub from: String,
    /// Display name in From.
    pub from_display: String,
    /// Diversion values, in wire order.
    pub diversion: Vec<String>,
    /// Further header lines (name, value).
    pub headers: Vec<(String, String)>,
    /// What to say; `None` = send silence.
    pub talk: Option<Talk>,
    /// What to play after the answer, instead of `talk`.
    pub says: Option<Arc<[i16]>>,
    /// Keys to press.
    pub presses: Vec<Presses>,
    /// What becomes of a REFER.
    pub on_refer: OnRefer,
    /// How it ends.
    pub end: CallEnd,
    /// The call is given up (CANCEL or BYE) after this long, whatever happens.
    pub time_limit: Duration,
}

impl CallSpec {
    /// A call for `alias` forwarded to voice mail, as a Lync 2015 Front End sends it: two seconds of 440 Hz after the beep, then BYE.
    pub fn call_answering(alias: &str, caller: &str, domain: &str) -> Self {
        CallSpec {
            shape: OfferShape::Lync2015,
            request_uri: format!("sip:{alias}@{domain};opaque=app:voicemail"),
            to: format!("sip:{alias}@{domain}"),
            from: format!("sip:{caller}@{domain}"),
            from_display: caller.to_owned(),
            diversion: vec![format!("<sip:{alias}@{domain}>")],
            headers: Vec::new(),
            talk: Some(Talk {
                hz: 440.0,
                level_dbfs: -15.0,
                lasts: Duration::from_secs(2),
                start: TalkStart::AfterBeep,
            }),
            says: None,
            presses: Vec::new(),
            on_refer: OnRefer::Follow,
            end: CallEnd::HangUpAfterTalk,
            time_limit: Duration::from_secs(30),
        }
    }
}

/// What the caller heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// RTP packets that were accepted (on SRTP: verified).
    pub packets: u64,
    /// Packets that were not: wrong tag, not RTP, other source.
    pub rejected: u64,
    /// RTP packets sent.
    pub sent: u64,
    /// Strongest tone of all that was heard, when one stands out.
    pub dominant_hz: Option<f64>,
    /// Level in dBFS of the audible part.
    pub level_dbfs: f64,
    /// When the beep began, after the answer.
    pub beep_at: Option<Duration>,
    /// Level in dBFS of what came before the beep: the greeting. -100 without a beep.
    pub greeting_dbfs: f64,
    /// Length of the audio.
    pub lasted: Duration,
}

/// Who ended an answered call.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum EndedBy {
    /// We sent BYE.
    Us,
    /// The other side sent BYE.
    Them,
    /// The connection broke.
    ConnectionLost,
}

/// A header line of the final response.
pub type HeaderLine = (String, String);

/// What came of a call.
#[derive(Clone, Debug)]
pub struct CallOutcome {
    /// Our Call-ID.
    pub call_id: String,
    /// Final status of the INVITE; 0 = none came.
    pub status: u16,
    /// Reason phrase as received.
    pub reason: String,
    /// Provisional statuses in order (100 included).
    pub provisional: Vec<u16>,
    /// All header lines of the final response, in wire order.
    pub headers: Vec<HeaderLine>,
    /// Its body.
    pub body: Vec<u8>,
    /// 3xx responses that reached us: must be none behind a gateway.
    pub redirects_seen: usize,
    /// INVITE to final response.
    pub setup: Option<Duration>,
    /// INVITE to first provisional other than 100, or to the final.
    pub first_ring: Option<Duration>,
    /// Media as negotiated (answered calls).
    pub media: Option<MediaKind>,
    /// Codec name (answered calls).
    pub codec: Option<String>,
    /// What was heard (answered calls).
    pub heard: Heard,
    /// Refer-To of each REFER that came, in order.
    pub referred_to: Vec<String>,
    /// Who ended it (answered calls).
    pub ended_by: Option<EndedBy>,
    /// Answer to end (answered calls).
    pub lasted: Option<Duration>,
    /// Whether the answer broke a rule (profile, unknown crypto tag, …), in words.
    pub answer_fault: Option<String>,
}

impl CallOutcome {
    /// First value of a header, by name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Answered with 2xx.
    pub fn answered(&self) -> bool {
        (200..300).contains(&self.status)
    }
}
