//! baresip (TLS, SDES mandatory) calls the lab UM through the gateway: the stored voice message holds the tone it played,
//! and it hears the greeting.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::pki::Pki;
use lab::um::{LabFact, StoredMessage};

use crate::harness::{Process, peers_present};
use crate::site::Site;

const TONE_HZ: f64 = 620.0;
/// Where baresip takes commands, on its own address.
pub const CONTROL_PORT: u16 = 4444;

#[test]
fn baresip_leaves_a_message_through_the_gateway_and_hears_the_greeting() {
    if !peers_present(&["baresip"]) {
        return;
    }
    let site = Site::start();
    let mut facts = site.facts();
    let phone = Phone::in_pool(&site, "dana", None);
    let mut baresip =
        phone.start(&site.pki, &["-e", "/dial sip:ken@contoso.com;opaque=app:voicemail", "-t", "12"]);
    let stored = site
        .block_on(async { tokio::time::timeout(Duration::from_secs(40), next_message(&mut facts)).await });
    let stored = stored.unwrap_or_else(|_| {
        panic!("no message; baresip:\n{}\ngateway:\n{}", baresip.output(), site.gateway.process.output())
    });
    let heard_hz = lab_tone(&stored.wav);
    assert!(
        (heard_hz - TONE_HZ).abs() < 15.0,
        "the message holds {heard_hz} Hz, baresip played {TONE_HZ} Hz"
    );
    assert_eq!(stored.note.security, "Secured");
    baresip.wait(Duration::from_secs(20));
    let greeting = phone.recording();
    let loudest = greeting.iter().map(|s| i32::from(*s).abs()).max().unwrap_or(0);
    assert!(
        greeting.len() > 8_000 && loudest > 1_000,
        "baresip heard {} samples, loudest {loudest}",
        greeting.len()
    );
}

async fn next_message(facts: &mut tokio::sync::broadcast::Receiver<LabFact>) -> StoredMessage {
    loop {
        match facts.recv().await {
            Ok(LabFact::Stored(message)) => return *message,
            other => println!("lab: {other:?}"),
        }
    }
}

/// The tone of the middle half of the message, in Hz, by counting zero crossings: independent of the lab's detector. Counted in stretches of
/// which the median is taken, because a baresip that is kept waiting leaves gaps.
fn lab_tone(wav: &Path) -> f64 {
    const STRETCH: usize = 3_200;
    let mut reader = hound::WavReader::open(wav).unwrap();
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
    let rises = |stretch: &[i16]| stretch.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count();
    let mut counts: Vec<usize> = middle.chunks_exact(STRETCH).map(rises).collect();
    counts.sort_unstable();
    counts[counts.len() / 2] as f64 * 8000.0 / STRETCH as f64
}

/// One baresip: who it is, and the tone it plays.
pub struct Phone {
    /// Its folder.
    pub home: PathBuf,
    pub address: Ipv4Addr,
    /// Where it listens for TCP, and for TLS on the next port; 0: anywhere.
    pub port: u16,
    /// In its certificate.
    pub name: &'static str,
    /// Behind `<` in its account.
    pub account: String,
    pub tone_hz: f64,
    /// Whom it asks for names; without one it knows addresses only.
    pub names: Option<SocketAddr>,
}

impl Phone {
    /// One of this user in pool01, whose proxy is the gateway.
    pub fn in_pool(site: &Site, user: &str, names: Option<SocketAddr>) -> Self {
        let proxy = format!("outbound=\"sip:{}:5061;transport=tls\"", site.gateway.address);
        Self {
            home: site.gateway.folder.path().join("baresip"),
            address: site.pool_address("pool01"),
            port: 0,
            name: "pool01.contoso.com",
            account: format!("sip:{user}@contoso.com;transport=tls>;regint=0;mediaenc=srtp-mand;{proxy}"),
            tone_hz: TONE_HZ,
            names,
        }
    }

    /// Starts it with these arguments.
    pub fn start(&self, pki: &Pki, arguments: &[&str]) -> Process {
        self.prepare(pki);
        let mut command = Command::new("baresip");
        command.args(["-4", "-f"]).arg(&self.home).args(arguments);
        Process::start("baresip", &mut command, &self.home)
    }

    /// What its recorder wrote of the far end.
    pub fn recording(&self) -> Vec<i16> {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let files = std::fs::read_dir(self.home.join("rec")).unwrap().flatten().map(|e| e.path());
            let decoded = files.filter(|p| p.to_string_lossy().contains("dec")).max();
            if let Some(Ok(mut reader)) = decoded.map(hound::WavReader::open) {
                return reader.samples::<i16>().map_while(Result::ok).collect();
            }
            assert!(Instant::now() < until, "baresip recorded nothing");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn prepare(&self, pki: &Pki) {
        let home = self.home.display();
        std::fs::create_dir_all(self.home.join("rec")).unwrap();
        let files = pki.identity_files(self.name).unwrap();
        let pem = [std::fs::read(files.certificate).unwrap(), std::fs::read(files.key).unwrap()].concat();
        std::fs::write(self.home.join("client.pem"), pem).unwrap();
        std::fs::copy(pki.root_file(), self.home.join("root.pem")).unwrap();
        write_tone(&self.home.join("tone.wav"), self.tone_hz);
        let account = format!("<{};audio_codecs=PCMU/8000/1\n", self.account);
        std::fs::write(self.home.join("accounts"), account).unwrap();
        let (address, port) = (self.address, self.port);
        let names = self.names.map_or_else(String::new, |server| format!("dns_server {server}\n"));
        let config = format!(
            "poll_method epoll\nsip_listen {address}:{port}\nsip_certificate {home}/client.pem\nsip_cafile {home}/root.pem\n\
             call_local_timeout 120\ncall_max_calls 1\naudio_source aufile,{home}/tone.wav\naudio_player aubridge,nil\n\
             audio_alert aubridge,nil\nausrc_srate 8000\nauplay_srate 8000\nrtp_ports 30000-30100\nmodule_path /usr/lib/baresip/modules\n\
             module g711.so\nmodule srtp.so\nmodule aufile.so\nmodule aubridge.so\nmodule sndfile.so\nsnd_path {home}/rec\n\
             module_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\nctrl_tcp_listen {address}:{CONTROL_PORT}\n\
             net_interface {address}\n{names}"
        );
        std::fs::write(self.home.join("config"), config).unwrap();
    }
}

/// Half a minute of a tone.
pub fn write_tone(path: &Path, hz: f64) {
    lab::audio::write_wav(path, &lab::audio::tone(hz, -15.0, 8_000 * 30)).unwrap();
}
