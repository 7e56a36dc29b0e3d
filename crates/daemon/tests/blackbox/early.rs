//! Set-up as two strangers see it: SIPp as the caller and as the UM server, one pair of scenarios per behaviour, against
//! the real binary. The scenarios are written from steps, so that a pair reads like its call flow.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::harness::{Gateway, Net, folder, peers_present};
use crate::sipp::{plain_config, run_uac, start_uas, write_scenarios};

/// Calls of each pair.
const CALLS: usize = 5;
const REQUIRED: &str = "Require: 100rel\n";
const SUPPORTED: &str = "Supported: 100rel\n";
const RELIABLE: &str = "Require: 100rel\nRSeq: 21\n";
const RACK: &str = "RAck: [$rseq] 1 INVITE\n";

const SDP: &str = "\
v=0
o=peer 1 [cseq] IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
";

/// Steps of one side.
struct Scenario(String);

impl Scenario {
    fn caller(lines: &str, body: &str) -> Self {
        let mut scenario = Self(String::from(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\" ?>\n<scenario name=\"caller\">\n",
        ));
        let text = message(
            "INVITE sip:88895@[remote_ip]:[remote_port];user=phone SIP/2.0",
            &format!(
                "{}To: <sip:88895@[remote_ip]:[remote_port];user=phone>\nCSeq: 1 INVITE\n{lines}",
                own_lines()
            ),
            body,
        );
        scenario.0 +=
            &format!("<send retrans=\"500\">{text}</send>\n<recv response=\"100\" optional=\"true\"/>\n");
        scenario
    }

    fn server() -> Self {
        let head = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\" ?>\n<scenario name=\"server\">\n<recv request=\"INVITE\" rrs=\"true\"><action>";
        // A later request hides the INVITE, whose answer still needs these.
        let kept = [("Via", "via"), ("CSeq", "number"), ("To", "to"), ("From", "from")].map(|(header, name)| {
            format!("<ereg regexp=\"[^ ].*\" search_in=\"hdr\" header=\"{header}:\" check_it=\"true\" assign_to=\"{name}\"/>")
        });
        Self(format!("{head}{}</action></recv>\n", kept.concat()))
    }

    /// The next response must be this one.
    fn hears(mut self, status: u16) -> Self {
        self.0 += &format!("<recv response=\"{status}\" rrs=\"true\"/>\n");
        self
    }

    /// The next response must be this one, and reliable.
    fn hears_reliably(mut self, status: u16) -> Self {
        self.0 += &format!(
            "<recv response=\"{status}\" rrs=\"true\"><action><ereg regexp=\"[0-9]+\" search_in=\"hdr\" header=\"RSeq:\" check_it=\"true\" \
             assign_to=\"rseq\"/></action></recv>\n"
        );
        self
    }

    /// The next request must be this one.
    fn gets(mut self, method: &str) -> Self {
        self.0 += &format!("<recv request=\"{method}\"/>\n");
        self
    }

    /// The next request must be this one, with that header value in it.
    fn gets_with(mut self, method: &str, header: &str, value: &str) -> Self {
        self.0 += &format!(
            "<recv request=\"{method}\"><action><ereg regexp=\"{value}\" search_in=\"hdr\" header=\"{header}:\" check_it=\"true\" \
             assign_to=\"seen\"/></action></recv>\n<nop><action><log message=\"[$seen]\"/></action></nop>\n"
        );
        self
    }

    /// A request of the caller in the dialog of the last response.
    fn asks(mut self, method: &str, number: u32, lines: &str, body: &str) -> Self {
        let to = "To: <sip:88895@[remote_ip]:[remote_port];user=phone>[peer_tag_param]\n";
        let lines = format!("{}{to}CSeq: {number} {method}\n{lines}", own_lines());
        let text = message(&format!("{method} [next_url] SIP/2.0"), &lines, body);
        self.0 += &format!("<send>{text}</send>\n");
        self
    }

    fn cancels(mut self, lines: &str) -> Self {
        let to = "To: <sip:88895@[remote_ip]:[remote_port];user=phone>\n";
        let via = own_lines().replace("[branch]", "[branch-3]");
        let lines = format!("{via}{to}CSeq: 1 CANCEL\n{lines}");
        let text = message("CANCEL sip:88895@[remote_ip]:[remote_port];user=phone SIP/2.0", &lines, "");
        self.0 += &format!("<send>{text}</send>\n");
        self
    }

    /// A request of the server in its dialog.
    fn server_asks(mut self, method: &str, number: u32, body: &str) -> Self {
        let lines = format!(
            "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\nFrom: [$to];tag=b1\nTo: [$from]\nCall-ID: [call_id]\nCSeq: {number} {method}\n{}",
            contact()
        );
        let text = message(&format!("{method} [next_url] SIP/2.0"), &lines, body);
        self.0 += &format!("<send>{text}</send>\n");
        self
    }

    /// The server answers its INVITE in the early dialog `tag`.
    fn answers(mut self, status: &str, tag: &str, lines: &str, body: &str) -> Self {
        let lines = format!(
            "Via: [$via]\nFrom: [$from]\nTo: [$to];tag={tag}\nCall-ID: [call_id]\nCSeq: [$number]\n{}{lines}",
            contact()
        );
        self.0 += &format!("<send>{}</send>\n", message(&format!("SIP/2.0 {status}"), &lines, body));
        self
    }

    /// Answers the request that came last.
    fn replies(mut self, body: &str) -> Self {
        let lines =
            format!("[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n{}", contact());
        self.0 += &format!("<send>{}</send>\n", message("SIP/2.0 200 OK", &lines, body));
        self
    }

    /// Time for the other side: SIPp takes no request while it has something to send.
    fn pauses(mut self) -> Self {
        self.0 += "<pause milliseconds=\"100\"/>\n";
        self
    }

    /// ACK and BYE of an answered caller.
    fn hangs_up(self, number: u32) -> Self {
        self.asks("ACK", 1, "", "").asks("BYE", number, "", "").hears(200)
    }

    /// ACK to a refusal, in the transaction of the INVITE.
    fn asks_ack(mut self) -> Self {
        let to = "To: <sip:88895@[remote_ip]:[remote_port];user=phone>[peer_tag_param]\n";
        let via = own_lines().replace("[branch]", "[branch-6]");
        let lines = format!("{via}{to}CSeq: 1 ACK\n");
        let text = message("ACK sip:88895@[remote_ip]:[remote_port];user=phone SIP/2.0", &lines, "");
        self.0 += &format!("<send>{text}</send>\n");
        self
    }

    fn sees_the_end(self) -> Self {
        self.gets("ACK").gets("BYE").replies("")
    }

    fn text(self) -> String {
        self.0 + "</scenario>\n"
    }
}

fn own_lines() -> String {
    "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\n\
     From: <sip:10048@[local_ip]:[local_port]>;tag=[pid]c[call_number]\nCall-ID: [call_id]\n"
        .to_owned()
        + &contact()
}

fn contact() -> String {
    "Contact: <sip:peer@[local_ip]:[local_port];transport=[transport]>\nAllow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE, INFO\n".to_owned()
}

fn message(start: &str, lines: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\n" };
    let length = if body.is_empty() { "0" } else { "[len]" };
    format!("<![CDATA[\n{start}\n{lines}{kind}Content-Length: {length}\n\n{body}]]>")
}

/// What happens, as the caller and as the server see it.
type Pair = (&'static str, Scenario, Scenario);

fn prack(caller: Scenario) -> Scenario {
    caller.asks("PRACK", 2, RACK, "").hears(200)
}

fn reliable() -> Vec<Pair> {
    vec![
        (
            "reliable on both legs",
            prack(Scenario::caller(REQUIRED, SDP).hears_reliably(183)).hears(200).hangs_up(3),
            Scenario::server()
                .answers("183 Progress", "b1", RELIABLE, SDP)
                .gets_with("PRACK", "RAck", "21 1 INVITE")
                .replies("")
                .answers("200 OK", "b1", "", "")
                .sees_the_end(),
        ),
        (
            "reliable toward the caller only",
            prack(Scenario::caller(SUPPORTED, SDP).hears_reliably(183)).hears(200).hangs_up(3),
            Scenario::server()
                .answers("183 Progress", "b1", "", SDP)
                .answers("200 OK", "b1", "", SDP)
                .sees_the_end(),
        ),
        (
            "reliable toward the server only",
            Scenario::caller("", SDP).hears(180).hears(200).hangs_up(2),
            Scenario::server()
                .answers("180 Ringing", "b1", RELIABLE, "")
                .gets_with("PRACK", "RAck", "21 1 INVITE")
                .replies("")
                .answers("200 OK", "b1", "", SDP)
                .sees_the_end(),
        ),
        (
            "a late offer in a reliable 18x, its answer in the PRACK",
            Scenario::caller(SUPPORTED, "")
                .hears_reliably(183)
                .asks("PRACK", 2, RACK, SDP)
                .hears(200)
                .hears(200)
                .hangs_up(3),
            Scenario::server()
                .answers("183 Progress", "b1", "", SDP)
                .answers("200 OK", "b1", "", SDP)
                .sees_the_end(),
        ),
    ]
}

fn early() -> Vec<Pair> {
    vec![
        (
            "UPDATE of the caller before the answer",
            prack(Scenario::caller(SUPPORTED, SDP).hears_reliably(183))
                .pauses()
                .asks("UPDATE", 3, "", SDP)
                .hears(200)
                .hears(200)
                .hangs_up(4),
            Scenario::server()
                .answers("183 Progress", "b1", RELIABLE, SDP)
                .gets("PRACK")
                .replies("")
                .gets("UPDATE")
                .replies(SDP)
                .answers("200 OK", "b1", "", "")
                .sees_the_end(),
        ),
        (
            "UPDATE of the server before the answer",
            prack(Scenario::caller(SUPPORTED, SDP).hears_reliably(183))
                .pauses()
                .asks("INFO", 3, "", "")
                .hears(200)
                .gets("UPDATE")
                .replies(SDP)
                .hears(200)
                .hangs_up(4),
            Scenario::server()
                .answers("183 Progress", "b1", RELIABLE, SDP)
                .gets("PRACK")
                .replies("")
                .gets("INFO")
                .replies("")
                .server_asks("UPDATE", 1, SDP)
                .hears(200)
                .answers("200 OK", "b1", "", "")
                .sees_the_end(),
        ),
        (
            "the second fork answers",
            Scenario::caller("", SDP).hears(180).hears(183).hears(200).hangs_up(2),
            Scenario::server()
                .answers("180 Ringing", "b2", "", "")
                .answers("183 Progress", "b1", "", SDP)
                .answers("200 OK", "b2", "", SDP)
                .sees_the_end(),
        ),
        (
            "CANCEL with its Reason",
            Scenario::caller("", SDP)
                .hears(180)
                .cancels("Reason: SIP;cause=200\n")
                .hears(200)
                .hears(487)
                .asks_ack(),
            Scenario::server()
                .answers("180 Ringing", "b1", "", "")
                .gets_with("CANCEL", "Reason", "cause=200")
                .replies("")
                .answers("487 Request Terminated", "b1", "", "")
                .gets("ACK"),
        ),
    ]
}

#[test]
fn calls_are_set_up_in_every_way_that_rfc_3262_and_3311_know() {
    if !peers_present(&["sipp"]) {
        return;
    }
    let net = Net::new();
    let (caller, gateway, server): (Ipv4Addr, Ipv4Addr, Ipv4Addr) =
        (net.host(10), net.host(20), net.host(30));
    let folder = folder();
    write_scenarios(folder.path());
    let mut umbra = Gateway::start(folder, gateway, 5060, &plain_config(caller, gateway, server));
    let mut count = 0;
    for (name, uac, uas) in reliable().into_iter().chain(early()) {
        println!("{name}");
        std::fs::write(umbra.folder.path().join("uac.xml"), uac.text()).unwrap();
        std::fs::write(umbra.folder.path().join("uas.xml"), uas.text()).unwrap();
        let mut answering = start_uas(umbra.folder.path(), server, CALLS);
        run_uac(umbra.folder.path(), "uac.xml", caller, (gateway, 5060), CALLS);
        assert_eq!(answering.wait(Duration::from_secs(20)), 0, "{name}: {}", answering.output());
        count += CALLS;
    }
    assert_eq!(umbra.wait_for_records(count, Duration::from_secs(10)).len(), count);
    assert_eq!(umbra.stop(), 0, "{}", umbra.process.output());
}
