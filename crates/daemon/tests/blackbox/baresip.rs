//! baresip (TLS, SDES mandatory) calls the lab UM through the gateway: the stored voice message holds the tone it played,
//! and it hears the greeting.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::um::{LabFact, StoredMessage};

use crate::harness::{Process, peers_present};
use crate::site::Site;

const TONE_HZ: f64 = 620.0;

#[test]
fn baresip_leaves_a_message_through_the_gateway_and_hears_the_greeting() {
    if !peers_present(&["baresip"]) {
        return;
    }
    let site = Site::start();
    let mut facts = site.facts();
    let home = site.gateway.folder.path().join("baresip");
    prepare(&site, &home);
    let mut command = Command::new("baresip");
    command.args(["-4", "-f"]).arg(&home).args([
        "-e",
        "/dial sip:ken@contoso.com;opaque=app:voicemail",
        "-t",
        "12",
    ]);
    let mut baresip = Process::start("baresip", &mut command, &home);
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
    let greeting = recording_of_baresip(&home);
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

/// Strongest tone of the second half of the message, in Hz, by counting zero crossings: independent of the lab's detector.
fn lab_tone(wav: &Path) -> f64 {
    let mut reader = hound::WavReader::open(wav).unwrap();
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
    let rises = middle.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count();
    rises as f64 * 8000.0 / middle.len() as f64
}

/// What baresip's recorder wrote of the far end.
fn recording_of_baresip(home: &Path) -> Vec<i16> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let files = std::fs::read_dir(home.join("rec")).unwrap().flatten().map(|e| e.path());
        let decoded = files.filter(|p| p.to_string_lossy().contains("dec")).max();
        if let Some(Ok(mut reader)) = decoded.map(hound::WavReader::open) {
            return reader.samples::<i16>().map_while(Result::ok).collect();
        }
        assert!(Instant::now() < until, "baresip recorded nothing");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn prepare(site: &Site, home: &Path) {
    std::fs::create_dir_all(home.join("rec")).unwrap();
    let files = site.pki.identity_files("pool01.contoso.com").unwrap();
    let pem = [std::fs::read(files.certificate).unwrap(), std::fs::read(files.key).unwrap()].concat();
    std::fs::write(home.join("client.pem"), pem).unwrap();
    std::fs::copy(site.pki.root_file(), home.join("root.pem")).unwrap();
    write_tone(&home.join("tone.wav"));
    let (address, gateway, home_path) = (site.pool_address("pool01"), site.gateway.address, home.display());
    let account = format!(
        "<sip:dana@contoso.com;transport=tls>;regint=0;mediaenc=srtp-mand;outbound=\"sip:{gateway}:5061;transport=tls\";audio_codecs=PCMU/8000/1\n"
    );
    std::fs::write(home.join("accounts"), account).unwrap();
    let config = format!(
        "poll_method epoll\nsip_listen {address}:0\nsip_certificate {home_path}/client.pem\nsip_cafile {home_path}/root.pem\n\
         call_local_timeout 120\ncall_max_calls 1\naudio_source aufile,{home_path}/tone.wav\naudio_player aubridge,nil\n\
         audio_alert aubridge,nil\nausrc_srate 8000\nauplay_srate 8000\nrtp_ports 30000-30100\nmodule_path /usr/lib/baresip/modules\n\
         module g711.so\nmodule srtp.so\nmodule aufile.so\nmodule aubridge.so\nmodule sndfile.so\nsnd_path {home_path}/rec\n\
         module_tmp account.so\nmodule_app menu.so\nnet_interface {address}\n"
    );
    std::fs::write(home.join("config"), config).unwrap();
}

fn write_tone(path: &Path) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for i in 0..8000 * 30 {
        let phase = std::f64::consts::TAU * TONE_HZ * f64::from(i) / 8000.0;
        writer.write_sample((8000.0 * phase.sin()) as i16).unwrap();
    }
    writer.finalize().unwrap();
}
