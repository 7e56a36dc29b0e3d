use super::*;
use crate::tests::start;

const PLAN: Reports = Reports { name: [0xFF; 12], seed: 7, clock_hz: 8_000 };

fn rtp(ssrc: u32, timestamp: u32) -> RtpHead {
    RtpHead { payload_type: 0, sequence: 1, timestamp, ssrc, header_bytes: 12 }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What is written at `now` with nothing received: kind, source, and the words behind.
fn written(reporter: &Reporter, now: Instant) -> (u8, u32, Vec<u32>) {
    let mut out = PacketBuffer::new();
    reporter.write(now, &mut Reception::new(now), &mut out);
    let words: Vec<u32> =
        out.as_slice().chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
    let length = usize::from(u16::from_be_bytes([out.as_slice()[2], out.as_slice()[3]])) + 1;
    (out.as_slice()[1], words[1], words[2..length].to_vec())
}

#[test]
fn rfc_3550_section_6_2_reports_come_every_five_seconds_half_less_or_more() {
    for seed in 0..200 {
        let now = start();
        let mut reporter = Reporter::new(&Reports { seed, ..PLAN }, Side::A, now);
        let first = reporter.due() - now;
        assert!((ms(1_250)..=ms(3_750)).contains(&first), "{first:?}");
        let mut times = Vec::new();
        for _ in 0..20 {
            let due = reporter.due();
            assert!(!reporter.takes_turn(due - ms(1)) && reporter.takes_turn(due));
            times.push(reporter.due() - due);
        }
        assert!(times.iter().all(|time| (ms(2_500)..=ms(7_500)).contains(time)), "{times:?}");
        let mean = times.iter().sum::<Duration>() / 20;
        assert!((ms(3_500)..=ms(6_500)).contains(&mean) && times[0] != times[1], "{mean:?}");
    }
}

#[test]
fn the_same_seed_says_the_same_and_each_side_has_its_own_source() {
    let now = start();
    let of = |seed, side| Reporter::new(&Reports { seed, ..PLAN }, side, now);
    let key = |reporter: Reporter| (reporter.ssrc, reporter.due());
    assert_eq!(key(of(7, Side::A)), key(of(7, Side::A)));
    assert_ne!(key(of(7, Side::A)), key(of(7, Side::B)));
    assert_ne!(key(of(7, Side::A)), key(of(8, Side::A)));
}

#[test]
fn nothing_is_made_while_the_other_sides_own_reports_pass() {
    let now = start();
    let mut reporter = Reporter::new(&PLAN, Side::A, now);
    for _ in 0..50 {
        let due = reporter.due();
        reporter.on_rtcp_sent(due - ms(2_400), 1);
        assert!(!reporter.takes_turn(due));
    }
    let quiet = reporter.due() + ms(7_500);
    assert!(reporter.takes_turn(quiet), "its last one is a longest interval ago");
}

#[test]
fn a_stream_is_described_once_its_source_stays_silent_and_as_long_as_it_runs() {
    let now = start();
    let mut reporter = Reporter::new(&PLAN, Side::A, now);
    assert_eq!(written(&reporter, now), (201, reporter.ssrc, vec![]));
    for count in 0..400 {
        reporter.on_rtp_sent(now + ms(20) * count, &rtp(9, 1_000 + 160 * count), 160);
    }
    let last = now + ms(20) * 399;
    assert_eq!(written(&reporter, now + ms(7_499)).0, 201, "its source may still speak for itself");
    // 30 ms after the last packet: 240 units more than its timestamp.
    let (kind, ssrc, words) = written(&reporter, last + ms(30));
    assert_eq!((kind, ssrc), (200, 9));
    assert_eq!(words[0], 8, "seconds since the session began");
    assert!(words[1].abs_diff(10 * (u32::MAX / 1_000)) < 10_000, "and 10 ms: {}", words[1]);
    assert_eq!(words[2..], [1_000 + 160 * 399 + 240, 400, 64_000]);
    assert_eq!(written(&reporter, last + ms(10_000)).0, 201, "it is on hold");
    reporter.on_rtcp_sent(last, 9);
    assert_eq!(written(&reporter, last + ms(30)).0, 201, "it speaks for itself");
    // Another source in its place is another stream.
    reporter.on_rtp_sent(last, &rtp(10, 5), 80);
    let (kind, ssrc, words) = written(&reporter, last + ms(7_500));
    assert_eq!((kind, ssrc, &words[2..]), (200, 10, &[5 + 60_000, 1, 80][..]));
}

#[test]
fn an_event_that_repeats_its_timestamp_does_not_stop_the_clock() {
    let now = start();
    let mut reporter = Reporter::new(&PLAN, Side::A, now);
    for count in 0..500 {
        reporter.on_rtp_sent(now + ms(20) * count, &rtp(9, 1_000), 4);
    }
    assert_eq!(written(&reporter, now + ms(10_000)).2[2], 81_000);
}

#[test]
fn a_block_answers_the_last_report_of_the_source_it_is_about() {
    let now = start();
    let mut reporter = Reporter::new(&PLAN, Side::A, now);
    let report = |ssrc: u8| [vec![0x80, 200, 0, 6, 0, 0, 0, ssrc, 0, 0, 0, 1, 0, 2], vec![0; 14]].concat();
    let block = |reporter: &Reporter, now| {
        let mut reception = Reception::new(now);
        reception.on_packet(now, &rtp(5, 0));
        let mut out = PacketBuffer::new();
        reporter.write(now, &mut reception, &mut out);
        let blocks: Vec<_> = rtcp::report_blocks(out.as_slice()).collect();
        (blocks[0].last_report, blocks[0].delay)
    };
    assert_eq!(block(&reporter, now), (0, 0));
    reporter.on_rtcp_received(now, &report(6));
    assert_eq!(block(&reporter, now), (0, 0), "another source's");
    reporter.on_rtcp_received(now, &report(5));
    assert_eq!(block(&reporter, now + ms(1_500)), (0x0001_0002, 98_304));
}

#[test]
fn a_name_is_96_bits_in_16_letters() {
    assert_eq!(&letters(&[0; 12]), b"AAAAAAAAAAAAAAAA");
    assert_eq!(&letters(&[0xFF; 12]), b"////////////////");
    assert_eq!(&letters(b"Man is distr"), b"TWFuIGlzIGRpc3Ry");
}
