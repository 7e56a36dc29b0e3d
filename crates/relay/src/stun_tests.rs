use super::*;

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

/// RFC 5769 §2.1.
const REQUEST: &[u8] = b"\
    \x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\
    \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\x00\x06\x00\x09evtj:h6vY\x20\x20\x20\
    \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
    \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

/// RFC 5769 §2.2 and §2.3: the answers from port 32853 of both families.
const ANSWER_4: &[u8] = b"\
    \x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0btest vector\x20\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
    \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
    \x80\x28\x00\x04\xc0\x7d\x4c\x96";
const ANSWER_6: &[u8] = b"\
    \x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0btest vector\x20\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\
    \xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9\
    \x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\
    \x80\x28\x00\x04\xc8\xfb\x0b\x4c";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn rfc_5769_2_1_the_sample_request_is_read_and_proves_right() {
    let request = Request::parse(REQUEST).unwrap();
    assert_eq!((request.username(), request.nominates()), (&b"evtj:h6vY"[..], false));
    assert!(request.has_cookie() && request.is_authentic(PASSWORD, Integrity::Exact));
    assert!(!request.is_authentic(PASSWORD, Integrity::Padded));
    assert!(!request.is_authentic(b"VOkJxbRl1RmTxUk/WvJxBT", Integrity::Exact));
    assert_eq!(request.fingerprint(Integrity::Exact), Ok(Some(Fingerprint::Standard)));
}

/// Our answer has no SOFTWARE; with it put in by hand it must be the sample, which proves length, mask, MAC and CRC.
#[test]
fn rfc_5769_2_2_and_2_3_the_sample_answers_are_what_we_write() {
    for (from, sample) in
        [("192.0.2.1:32853", ANSWER_4), ("[2001:db8:1234:5678:11:2233:4455:6677]:32853", ANSWER_6)]
    {
        let mut response = Response::new(REQUEST[4..20].try_into().unwrap());
        // Filled with a space, which is not counted.
        response.put(&[0x80, 0x22, 0, 11]);
        response.put(b"test vector\x20");
        response.mapped_address(at(from));
        let response = response.finish(PASSWORD, Integrity::Exact, Some(Fingerprint::Standard)).unwrap();
        assert_eq!(response.as_slice(), sample, "{from}");
    }
}

#[test]
fn an_answer_is_marked_as_the_request_was() {
    let request = Request::parse(REQUEST).unwrap();
    let bare = request.response(at("192.0.2.1:9"), PASSWORD, Integrity::Exact, None).unwrap();
    assert_eq!(bare.as_slice().len(), 20 + 12 + 24);
    assert_eq!(bare.as_slice()[2..4], [0, 12 + 24]);
    for table in [Fingerprint::Standard, Fingerprint::Misprinted] {
        let marked = request.response(at("192.0.2.1:9"), PASSWORD, Integrity::Padded, Some(table)).unwrap();
        let (covered, mark) = marked.as_slice().split_at(20 + 12 + 24);
        assert_eq!(mark[..4], [0x80, 0x28, 0, 4]);
        assert_eq!(mark[4..], table.of(covered).to_be_bytes());
    }
}

#[test]
fn the_misprinted_table_differs_in_one_entry() {
    let differing: Vec<u32> =
        CRC.into_iter().filter(|entry| Fingerprint::Misprinted.entry(*entry) != *entry).collect();
    assert_eq!(differing, [0x8BBE_B8EA]);
    assert_eq!(CRC[1], 0x7707_3096);
    assert_eq!(CRC[255], 0x2D02_EF8D);
}

#[test]
fn a_request_that_is_not_whole_is_none() {
    for length in 0..REQUEST.len() {
        assert!(Request::parse(&REQUEST[..length]).is_none(), "{length}");
    }
    let mut longer = REQUEST.to_vec();
    longer.push(0);
    assert!(Request::parse(&longer).is_none());
}

#[test]
fn other_messages_and_attributes_that_must_be_understood_are_none() {
    for kind in [[0x00, 0x11], [0x01, 0x01], [0x01, 0x11], [0x00, 0x03]] {
        let mut other = REQUEST.to_vec();
        other[..2].copy_from_slice(&kind);
        assert!(Request::parse(&other).is_none(), "{kind:?}");
    }
    let mut unknown = REQUEST.to_vec();
    unknown[20..22].copy_from_slice(&[0x00, 0x7F]);
    assert!(Request::parse(&unknown).is_none());
    let mut unsigned = REQUEST.to_vec();
    unsigned[REQUEST.len() - 8 - 24] = 0x80;
    assert!(Request::parse(&unsigned).is_none(), "no integrity is left");
}

#[test]
fn too_many_attributes_and_too_long_messages_are_none() {
    let with = |count: usize| {
        let mut bytes = REQUEST[..20].to_vec();
        (0..count).for_each(|_| bytes.extend([0x80, 0x99, 0, 0]));
        bytes.extend(&REQUEST[20 + 20 + 8 + 12..REQUEST.len() - 8]);
        let length = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    assert!(Request::parse(&with(STUN_ATTRIBUTES_MAX - 2)).is_some());
    assert!(Request::parse(&with(STUN_ATTRIBUTES_MAX - 1)).is_none());
    let mut long = REQUEST[..20].to_vec();
    long.extend([0x80, 0x99, 0x05, 0x00]);
    long.resize(20 + 4 + 0x500, 0);
    long[2..4].copy_from_slice(&[0x05, 0x04]);
    assert!(Request::parse(&long).is_none());
}

#[test]
fn what_follows_the_integrity_says_nothing_and_nothing_follows_the_fingerprint() {
    let nominate = [0x00, 0x25, 0, 0];
    let (head, mark) = REQUEST.split_at(REQUEST.len() - 8);
    let long = |bytes: Vec<u8>| {
        let mut bytes = bytes;
        let length = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let behind = long([head, &nominate, mark].concat());
    assert!(!Request::parse(&behind).unwrap().nominates());
    assert!(Request::parse(&long([REQUEST, &nominate].concat())).is_none());
}

#[test]
fn only_the_first_octets_of_stun_are_stun() {
    for first in 0..=u8::MAX {
        assert_eq!(is_stun(&[first, 1]), first < 4);
    }
    assert!(!is_stun(&[]));
}
