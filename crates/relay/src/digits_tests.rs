use super::*;
use crate::tests::start;

const EVENTS: Events = Events { heard: 101, sent: 96, seed: 0xABCD_FFFE };

fn head(ssrc: u32, sequence: u16, timestamp: u32) -> RtpHead {
    RtpHead { payload_type: 0, sequence, timestamp, ssrc, header_bytes: 12 }
}

fn digit(letter: char) -> Digit {
    Digit::from_letter(letter).unwrap()
}

/// Numbers of the packets of one event, and what they have in common.
fn press(splicer: &mut Splicer, now: Instant, letter: char, ms: u64) -> Vec<(u16, u32, u32)> {
    assert!(splicer.press(now, &EVENTS, digit(letter), Duration::from_millis(ms)));
    std::iter::from_fn(|| splicer.poll_event(&EVENTS))
        .map(|packet| {
            let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
            let (ssrc, timestamp) = (word(8), word(4));
            (u16::from_be_bytes([packet[2], packet[3]]), ssrc, timestamp)
        })
        .collect()
}

#[test]
fn every_letter_is_an_event_and_back_and_none_prints() {
    for letter in "0123456789*#ABCD".chars() {
        let digit = digit(letter);
        assert_eq!((digit.letter(), Digit::from_event(digit.0)), (letter, Some(digit)));
        assert_eq!(format!("{digit:?}"), "Digit(redacted)");
    }
    assert_eq!(Digit::from_letter('d'), Digit::from_letter('D'));
    assert!(Digit::from_letter('E').is_none() && Digit::from_letter('é').is_none());
    assert!(Digit::from_event(16).is_none());
}

#[test]
fn an_event_begins_goes_on_and_ends_three_times() {
    let mut splicer = Splicer::from_the_start();
    assert!(splicer.press(start(), &EVENTS, digit('5'), Duration::from_millis(160)));
    let packets: Vec<_> = std::iter::from_fn(|| splicer.poll_event(&EVENTS)).collect();
    let seen: Vec<(u8, &[u8])> = packets.iter().map(|packet| (packet[1], &packet[12..])).collect();
    let units = |units: u16, end: u8| vec![5, end | 10, (units >> 8) as u8, units as u8];
    assert_eq!(
        seen,
        [
            (0x80 | 96, &units(320, 0)[..]),
            (96, &units(640, 0)),
            (96, &units(1_280, 0x80)),
            (96, &units(1_280, 0x80)),
            (96, &units(1_280, 0x80)),
        ]
    );
}

#[test]
fn events_are_part_of_the_stream_and_what_follows_makes_room() {
    let (now, mut splicer) = (start(), Splicer::from_the_start());
    assert_eq!(splicer.on_forward(now, &head(7, 65_534, 1_000)), Ok(65_534));
    let later = now + Duration::from_millis(10);
    let events = press(&mut splicer, later, '1', 100);
    assert_eq!(events, [65_535, 0, 1, 2, 3].map(|number| (number, 7, 1_080)));
    assert_eq!(splicer.on_forward(later, &head(7, 65_535, 1_160)), Ok(4));
    assert_eq!(splicer.on_forward(later, &head(7, 0, 1_320)), Ok(5));
    assert_eq!(splicer.on_forward(later, &head(7, 65_533, 840)), Ok(65_533), "late, from before the event");
    // The next digit comes before the first one is over: it begins behind it.
    let events = press(&mut splicer, later, '2', 100);
    assert_eq!(events, [6, 7, 8, 9, 10].map(|number| (number, 7, 1_080 + 800)));
    let events = press(&mut splicer, later, '3', 100);
    assert_eq!(events, [11, 12, 13, 14, 15].map(|number| (number, 7, 1_080 + 1_600)));
    assert_eq!(splicer.on_forward(later, &head(7, 1, 1_480)), Ok(16));
}

#[test]
fn no_number_of_a_stream_is_used_twice_whatever_is_late_or_comes_back() {
    let (now, mut splicer) = (start(), Splicer::from_the_start());
    let mut used = std::collections::BTreeSet::new();
    let mut numbers: Vec<u16> = (0..40_000u32).map(|number| (number + 60_000) as u16).collect();
    numbers.chunks_mut(7).for_each(<[u16]>::reverse);
    for (count, number) in numbers.into_iter().enumerate() {
        let at = now + Duration::from_millis(20 * count as u64);
        let timestamp = u32::from(number) * 160;
        if let Ok(sent) = splicer.on_forward(at, &head(9, number, timestamp)) {
            assert!(used.insert(sent), "{sent} twice");
        }
        if count % 2_000 == 1_000 {
            splicer.on_forward(at, &head(10, count as u16, 0)).unwrap();
            splicer.on_forward(at, &head(9, number, timestamp)).unwrap();
            for (sent, ssrc, _) in press(&mut splicer, at, '7', 100) {
                assert_eq!(ssrc, 9);
                assert!(used.insert(sent), "{sent} twice");
            }
        }
    }
    assert!(used.len() > 39_900);
}

#[test]
fn what_is_too_late_to_know_its_number_goes_nowhere_and_too_many_streams_get_no_events() {
    let (now, mut splicer) = (start(), Splicer::from_the_start());
    for number in 0..=SPLICES_MAX as u16 {
        splicer.on_forward(now, &head(7, 100 + number, 0)).unwrap();
        press(&mut splicer, now, '0', 40);
    }
    assert_eq!(splicer.on_forward(now, &head(7, 99, 0)), Err(Why::Replayed));
    for ssrc in 20..20 + STREAMS_MAX as u32 - 1 {
        splicer.on_forward(now, &head(ssrc, 1, 0)).unwrap();
    }
    press(&mut splicer, now, '0', 40);
    assert_eq!(splicer.on_forward(now, &head(99, 1, 0)), Ok(1));
    assert!(!splicer.press(now, &EVENTS, digit('0'), Duration::from_millis(40)));
    assert_eq!(splicer.on_forward(now, &head(99, 2, 0)), Ok(2));
}

#[test]
fn a_stream_that_was_not_seen_from_the_start_gets_events_once_its_order_is_known() {
    let (now, mut splicer) = (start(), Splicer::begun_later());
    let press = |splicer: &mut Splicer| splicer.press(now, &EVENTS, digit('0'), Duration::from_millis(40));
    for number in 0..REORDERED_MAX as u16 {
        splicer.on_forward(now, &head(7, number, 0)).unwrap();
        assert_eq!(press(&mut splicer), number + 1 == REORDERED_MAX as u16, "{number}");
    }
}

#[test]
fn without_a_stream_events_have_a_source_of_their_own() {
    let (now, mut splicer) = (start(), Splicer::from_the_start());
    let first = press(&mut splicer, now, '1', 100);
    assert_eq!(first[0], (0xFFFF, 0xABCD_FFFE, 0xFFFE_ABCD));
    let second = press(&mut splicer, now + Duration::from_secs(1), '2', 100);
    assert_eq!(second[0], (4, 0xABCD_FFFE, 0xFFFE_ABCDu32.wrapping_add(8_000)));
    assert_eq!(splicer.on_forward(now, &head(7, 40, 0)), Ok(40));
}

#[test]
fn a_digit_is_told_once_however_often_its_end_comes_and_when_no_end_does() {
    let mut listener = Listener::default();
    let mut hear = |timestamp, event, end: u8, units: u16| {
        let [high, low] = units.to_be_bytes();
        listener.on_event(&head(7, 0, timestamp), &[event, end | 10, high, low])
    };
    let told = |letter, ms| Some((digit(letter), Duration::from_millis(ms)));
    assert_eq!(hear(100, 5, 0, 160), None);
    assert_eq!(hear(100, 5, END, 800), told('5', 100));
    assert_eq!(hear(100, 5, END, 800), None);
    assert_eq!(hear(1_000, 11, END, 400), told('#', 50), "only an end was heard");
    assert_eq!(hear(100, 5, END, 800), None, "overtaken");
    assert_eq!(hear(2_000, 1, 0, 320), None);
    assert_eq!(hear(3_000, 2, 0, 160), told('1', 40), "all its ends were lost");
    assert_eq!(hear(3_000, 2, END, 480), told('2', 60));
    assert_eq!(hear(4_000, 16, END, 480), None, "no digit");
    assert_eq!(listener.on_event(&head(7, 0, 5_000), &[5, END, 0]), None, "cut short");
}
