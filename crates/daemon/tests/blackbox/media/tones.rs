//! Two foreign clients speak through the gateway, each with a tone of its own, and each must have heard the other's: baresip
//! with baresip, linphone with baresip, over TLS with SRTP on both legs. The detector is the test's own.

use std::f64::consts::TAU;
use std::io::{PipeWriter, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lab::pki::Pki;

use crate::baresip::{Phone, write_tone};
use crate::harness::{Gateway, Net, Process, folder, peers_present};
use crate::stage::{self, GATEWAYS, SERVERS};
use crate::wire::{Carrier, FQDN};

const CALLER_HZ: f64 = 440.0;
const CALLEE_HZ: f64 = 880.0;
/// Samples judged at once: a tenth of a second, in which both tones have whole periods.
const WINDOW: usize = 800;
const RATE: f64 = 8_000.0;
/// Share of a window's power that its tone must have.
const PURE: f64 = 0.8;
/// Mean square below which a window is silence.
const SILENCE: f64 = 10_000.0;
const PACKETS_PER_SECOND: f64 = 50.0;

/// How many of the windows hold that tone and hardly anything else.
pub fn windows_of(samples: &[i16], hz: f64) -> usize {
    samples.chunks_exact(WINDOW).filter(|window| holds(window, hz)).count()
}

/// By Goertzel's sum.
fn holds(window: &[i16], hz: f64) -> bool {
    let energy: f64 = window.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let turn = 2.0 * (TAU * hz / RATE).cos();
    let (last, before) = window
        .iter()
        .fold((0.0, 0.0), |(last, before), sample| (f64::from(*sample) + turn * last - before, last));
    let power = last * last + before * before - turn * last * before;
    energy / window.len() as f64 > SILENCE && 2.0 * power / (window.len() as f64 * energy) > PURE
}

/// Whether somebody heard that tone for most of so many seconds, and never the other one.
fn is_heard(samples: &[i16], hz: f64, never: f64, seconds: usize) -> bool {
    let wanted = seconds * RATE as usize / WINDOW;
    windows_of(samples, hz) * 10 > wanted * 9 && windows_of(samples, never) == 0
}

/// A gateway over TLS whose plan demands SRTP, and the lab's certificates.
fn gateway() -> (Gateway, Net, Pki) {
    let (net, folder) = (Net::new(), folder());
    let pki = Pki::open(&folder.path().join("pki")).unwrap();
    let config = stage::config(net, Carrier::Tls, &pki)
        .replace("\"SIPSecured\"", "\"Secured\"")
        .replace("level = \"trace\"", "level = \"info\"");
    (Gateway::start(folder, net.host(20), 5061, &config), net, pki)
}

/// The callee: baresip where the gateway looks for its server.
fn callee(umbra: &Gateway, net: Net) -> Phone {
    Phone {
        home: umbra.folder.path().join("callee"),
        address: stage::home(net, Carrier::Tls, SERVERS[0]),
        port: 5062,
        name: SERVERS[0],
        account: "sip:88895@contoso.test;transport=tls>;regint=0;answermode=auto;mediaenc=srtp-mand"
            .to_owned(),
        tone_hz: CALLEE_HZ,
        names: None,
    }
}

/// What the gateway counted: nearly all came, and nearly all went out.
fn counts_are_good(umbra: &Gateway, seconds: usize) {
    let records = umbra.wait_for_records(1, Duration::from_secs(15));
    let media = &records[0]["media"];
    let count = |side: &str, what: &str| media[side][what].as_f64().unwrap();
    for (from, to) in [("a", "b"), ("b", "a")] {
        let (came, lost) = (count(from, "packets"), count(from, "lost"));
        assert!(came >= 0.9 * PACKETS_PER_SECOND * seconds as f64, "{media}");
        assert!(lost * 100.0 <= came && count(to, "packets_sent") >= 0.99 * came, "{media}");
    }
}

#[test]
fn two_baresips_hear_each_others_tone() {
    if !peers_present(&["baresip"]) {
        return;
    }
    const SECONDS: usize = 4;
    let (umbra, net, pki) = gateway();
    let callee = callee(&umbra, net);
    let mut answering = callee.start(&pki, &[]);
    answering.wait_for_port(callee.address.into(), callee.port + 1);
    let outbound = umbra.address;
    let caller = Phone {
        home: umbra.folder.path().join("caller"),
        address: stage::home(net, Carrier::Tls, GATEWAYS[0]),
        port: 0,
        name: GATEWAYS[0],
        account: format!(
            "sip:101@contoso.test;transport=tls>;regint=0;mediaenc=srtp-mand;outbound=\"sip:{outbound}:5061;transport=tls\""
        ),
        tone_hz: CALLER_HZ,
        names: None,
    };
    let lasts = (SECONDS + 1).to_string();
    let mut calling = caller.start(&pki, &["-e", "/dial sip:88895@umbra.contoso.test", "-t", &lasts]);
    calling.wait(Duration::from_secs(30));
    println!("{}\n{}\n{}", calling.output(), answering.output(), umbra.process.output());
    counts_are_good(&umbra, SECONDS);
    assert!(is_heard(&caller.recording(), CALLEE_HZ, CALLER_HZ, SECONDS));
    assert!(is_heard(&callee.recording(), CALLER_HZ, CALLEE_HZ, SECONDS));
}

/// linphone's console: it is told what to do line by line, and plays and records files in place of a sound card.
struct Linphone {
    process: Process,
    input: PipeWriter,
    recording: PathBuf,
}

impl Linphone {
    fn start(umbra: &Gateway, net: Net, pki: &Pki) -> Self {
        let home = umbra.folder.path().join("linphone");
        // Where it keeps its history, without which it does not call.
        std::fs::create_dir_all(home.join(".local/share/linphone")).unwrap();
        let (recording, tone, hosts) = (home.join("heard.wav"), home.join("tone.wav"), home.join("hosts"));
        std::fs::write(&hosts, format!("{} {FQDN}\n", umbra.address)).unwrap();
        write_tone(&tone, CALLER_HZ);
        let files = pki.identity_files(GATEWAYS[0]).unwrap();
        let own = stage::home(net, Carrier::Tls, GATEWAYS[0]);
        let config = format!(
            "[sip]\nbind_address={own}\nsip_port=-1\nsip_tcp_port=-1\nsip_tls_port=5061\nguess_hostname=0\ncontact=sip:101@{own}\n\
             client_cert_chain={chain}\nclient_cert_key={key}\nroot_ca={root}\n\
             media_encryption=srtp\nmedia_encryption_mandatory=1\nregister_only_when_network_is_up=0\ndefault_proxy=0\n\
             [rtp]\nbind_address={own}\naudio_rtp_port=30000-30100\n\
             [proxy_0]\nreg_proxy=<sip:{FQDN}:5061;transport=tls>\nreg_route=<sip:{FQDN}:5061;transport=tls;lr>\n\
             reg_identity=sip:101@contoso.test\nreg_sendregister=0\npublish=0\n\
             [audio_codec_0]\nmime=PCMU\nrate=8000\nchannels=1\nenabled=1\n",
            chain = files.certificate.display(),
            key = files.key.display(),
            root = pki.root_file().display(),
        );
        std::fs::write(home.join("linphonerc"), config).unwrap();
        // The gateway's Contact is a name; this client alone gets a hosts file that knows it.
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec linphonec -d 5 -c \"$1\""]);
        command.arg(hosts).arg(home.join("linphonerc")).env("HOME", &home).current_dir(&home);
        let (output, input) = std::io::pipe().unwrap();
        let process = Process::start_reading("linphonec", &mut command, &home, output);
        let mut this = Self { process, input, recording };
        this.says("soundcard use files");
        this.says(&format!("play {}", tone.display()));
        this.says(&format!("record {}", this.recording.display()));
        this
    }

    fn says(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        // It reads a line at a time, and some of them take effect in its loop.
        std::thread::sleep(Duration::from_millis(300));
    }

    fn heard(&self) -> Vec<i16> {
        let mut reader = hound::WavReader::open(&self.recording).unwrap();
        assert_eq!(f64::from(reader.spec().sample_rate), RATE);
        reader.samples::<i16>().map_while(Result::ok).collect()
    }
}

/// Whether a process may be given files of its own, which a container can forbid.
fn may_have_hosts_of_its_own() -> bool {
    let may = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    let required = std::env::var("UMBRA_REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(may || !required, "UMBRA_REQUIRE_PEERS=1 and `unshare -rm` is not allowed");
    if !may {
        // Past the test's capture.
        let _ = std::io::stderr().write_all(
            b"skipped: linphone needs a hosts file of its own, and `unshare -rm` is not allowed\n",
        );
    }
    may
}

#[test]
fn linphone_and_baresip_hear_each_others_tone() {
    if !peers_present(&["linphonec", "baresip", "unshare"]) || !may_have_hosts_of_its_own() {
        return;
    }
    const SECONDS: usize = 4;
    let (umbra, net, pki) = gateway();
    let callee = callee(&umbra, net);
    let mut answering = callee.start(&pki, &[]);
    answering.wait_for_port(callee.address.into(), callee.port + 1);
    let mut linphone = Linphone::start(&umbra, net, &pki);
    linphone.says("call sip:88895@umbra.contoso.test");
    std::thread::sleep(Duration::from_secs(SECONDS as u64 + 2));
    linphone.says("terminate");
    linphone.says("quit");
    linphone.process.wait(Duration::from_secs(20));
    println!("{}\n{}\n{}", linphone.process.output(), answering.output(), umbra.process.output());
    counts_are_good(&umbra, SECONDS);
    assert!(is_heard(&linphone.heard(), CALLEE_HZ, CALLER_HZ, SECONDS));
    assert!(is_heard(&callee.recording(), CALLER_HZ, CALLEE_HZ, SECONDS));
}

#[test]
fn the_detector_says_no_to_silence_to_another_tone_and_to_crossed_legs() {
    let tone = |hz| lab::audio::tone(hz, -15.0, 4 * 8_000);
    let heard = |samples: &[i16]| is_heard(samples, CALLER_HZ, CALLEE_HZ, 4);
    assert!(heard(&tone(CALLER_HZ)));
    assert!(!heard(&lab::audio::silence(4 * 8_000)));
    assert!(!heard(&tone(CALLEE_HZ)) && !heard(&tone(620.0)));
    let mixed: Vec<i16> = tone(CALLER_HZ).iter().zip(tone(CALLEE_HZ)).map(|(a, b)| a / 2 + b / 2).collect();
    assert!(!heard(&mixed));
    // Half of it, and an echo of its own at the end.
    assert!(!heard(&tone(CALLER_HZ)[..2 * 8_000]));
    assert!(!heard(&[tone(CALLER_HZ), tone(CALLEE_HZ)].concat()));
}
