//! The INVITE in the shapes of Lync 2013, Lync 2015, an IP-PBX and a Mailbox server: header names, order, spelling and parameters as these products send them.

use std::net::SocketAddr;

use bytes::Bytes;
use sip::{BuildError, Builder, Flow, Method, OutgoingRequest};

use super::{CallSpec, CallerConfig, OfferShape};
use crate::negotiate::Body;

const LYNC_AGENT: &str = "UCCAPI/15.0.4569.1503 OC/15.0.4569.1503 (Microsoft Lync)";
const LYNC_ALLOW: &str = "INVITE, BYE, ACK, CANCEL, INFO, UPDATE, REFER, NOTIFY, BENOTIFY, OPTIONS";
/// 100rel is left out: this caller does not answer reliable provisionals, and so must not ask for them.
const LYNC_SUPPORTED: &str = "ms-dialog-route-set-update, timer, histinfo, ms-safe-transfer, ms-sender, ms-early-media, replaces, ms-conf-invite, Ms-Fe";
const PBX_ALLOW: &str = "INVITE, OPTIONS, INFO, BYE, CANCEL, ACK, UPDATE, REFER, SUBSCRIBE, NOTIFY";

/// Names of one call.
pub(super) struct Names<'n> {
    pub(super) call_id: &'n [u8],
    pub(super) tag: &'n [u8],
    pub(super) local: SocketAddr,
}

/// Writes the INVITE.
pub(super) fn invite(
    config: &CallerConfig,
    spec: &CallSpec,
    flow: &Flow,
    names: &Names<'_>,
    body: Option<&Body>,
) -> Result<OutgoingRequest, BuildError> {
    let lines = match spec.shape {
        OfferShape::PbxTcp | OfferShape::LateOffer => pbx(spec, flow, names),
        OfferShape::UmSecured | OfferShape::UmPlain => um(config, spec, flow, names),
        _ => lync(config, spec, names),
    };
    Ok(OutgoingRequest {
        method: Method::Invite,
        uri: Bytes::copy_from_slice(spec.request_uri.as_bytes()),
        headers: block(&spec.request_uri, lines, &spec.headers)?,
        content_type: body.map(|b| Bytes::copy_from_slice(b.content_type.as_bytes())),
        body: body.map(|b| b.bytes.clone()).unwrap_or_default(),
    })
}

type Line = (&'static str, String);

fn lync(config: &CallerConfig, spec: &CallSpec, names: &Names<'_>) -> Vec<Line> {
    let (fqdn, from) = (&config.fqdn, &spec.from);
    let mut lines = vec![
        (
            "Record-Route",
            format!(
                "<sip:{fqdn}:5061;transport=tls;ms-fe={fqdn};opaque=state:F:Ci.R1a2b00;lr;ms-route-sig=eyNq3Xv0Bf_5Zq8mLw7aQ>;ms-rrsig=eyKp2Wc1Lq4Hn8Rt6bVx;tag=5F1D8A1C0B7E4C2D9A6B3E8F7C5D4A2B"
            ),
        ),
        ("Max-Forwards", "68".to_owned()),
        ("From", format!("\"{}\"<{from}>;tag={};epid=c21eec507a", spec.from_display, text(names.tag))),
        ("To", format!("<{}>", to(spec))),
        ("Call-ID", text(names.call_id)),
        ("CSeq", "1 INVITE".to_owned()),
        ("Contact", format!("<{from};opaque=user:epid:oY3nX2f1kVqk7l9b0cR5dwAA;gruu>")),
        ("P-Asserted-Identity", format!("\"{}\"<{from}>", spec.from_display)),
    ];
    lines.extend(spec.diversion.iter().map(|d| ("Diversion", d.clone())));
    if spec.shape == OfferShape::Lync2013Multipart {
        lines.extend(spec.diversion.first().map(|d| ("history-info", format!("{d};index=1"))));
    }
    lines.extend([
        ("Allow", LYNC_ALLOW.to_owned()),
        ("Supported", LYNC_SUPPORTED.to_owned()),
        ("User-Agent", LYNC_AGENT.to_owned()),
        ("ms-keep-alive", "UAC;hop-hop=yes".to_owned()),
        ("Ms-Conversation-ID", "AdCv1zS0ZQ9m2yC8Q1iYt7uF3w==".to_owned()),
    ]);
    lines
}

fn pbx(spec: &CallSpec, flow: &Flow, names: &Names<'_>) -> Vec<Line> {
    let from = &spec.from;
    let user = from.split_once(':').map_or(from.as_str(), |(_, rest)| rest);
    let user = user.split(['@', ';']).next().unwrap_or_default();
    let mut lines = vec![
        ("Max-Forwards", "70".to_owned()),
        ("From", format!("\"{}\" <{from}>;tag={}", spec.from_display, text(names.tag))),
        ("To", format!("<{}>", to(spec))),
        ("Call-ID", text(names.call_id)),
        ("CSeq", "101 INVITE".to_owned()),
        ("Contact", format!("<sip:{user}@{};transport={}>", names.local, flow.transport.as_param())),
        ("Supported", "timer,replaces".to_owned()),
        ("Allow", PBX_ALLOW.to_owned()),
    ];
    lines.extend(spec.diversion.iter().map(|d| ("Diversion", d.clone())));
    lines.push((
        "Remote-Party-ID",
        format!("\"{}\" <{from}>;party=calling;screen=yes;privacy=off", spec.from_display),
    ));
    lines
}

fn um(config: &CallerConfig, spec: &CallSpec, flow: &Flow, names: &Names<'_>) -> Vec<Line> {
    let (from, word) = (&spec.from, flow.transport.as_param());
    vec![
        ("Max-Forwards", "70".to_owned()),
        ("From", format!("\"{}\"<{from}>;tag={}", spec.from_display, text(names.tag))),
        ("To", format!("<{}>", to(spec))),
        ("Call-ID", text(names.call_id)),
        ("CSeq", "1 INVITE".to_owned()),
        ("Contact", format!("<sip:{}:{};transport={word}>", config.fqdn, flow.via_port)),
        ("User-Agent", crate::um::SERVER_HEADER.to_owned()),
        ("Supported", "replaces".to_owned()),
        ("Allow", PBX_ALLOW.to_owned()),
    ]
}

/// The OPTIONS of a Front End.
pub(super) fn options(
    config: &CallerConfig,
    uri: &str,
    names: &Names<'_>,
) -> Result<OutgoingRequest, BuildError> {
    let lines = vec![
        ("Max-Forwards", "70".to_owned()),
        ("From", format!("<sip:{}>;tag={}", config.fqdn, text(names.tag))),
        ("To", format!("<{uri}>")),
        ("Call-ID", text(names.call_id)),
        ("CSeq", "1 OPTIONS".to_owned()),
        ("Contact", format!("<sip:{}>", names.local)),
        ("Accept", "application/sdp".to_owned()),
    ];
    Ok(OutgoingRequest {
        method: Method::Options,
        uri: Bytes::copy_from_slice(uri.as_bytes()),
        headers: block(uri, lines, &[])?,
        content_type: None,
        body: Bytes::new(),
    })
}

fn to(spec: &CallSpec) -> String {
    if !spec.to.is_empty() {
        return spec.to.clone();
    }
    spec.request_uri.split(';').next().unwrap_or_default().to_owned()
}

/// Header lines as a block. The builder checks names and values; its start line is cut off again.
fn block(uri: &str, lines: Vec<Line>, more: &[(String, String)]) -> Result<Bytes, BuildError> {
    let mut builder = Builder::request(&Method::Invite, uri.as_bytes());
    for (name, value) in &lines {
        builder = builder.raw_header(name.as_bytes(), value.as_bytes());
    }
    for (name, value) in more {
        builder = builder.raw_header(name.as_bytes(), value.as_bytes());
    }
    let whole = builder.finish(None, b"")?;
    let start = find(&whole, b"\r\n").map_or(0, |at| at + 2);
    let end = find(&whole, b"Content-Length:").unwrap_or(whole.len());
    Ok(whole.slice(start..end.max(start)))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|w| w == needle)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
