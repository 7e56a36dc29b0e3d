use super::*;

const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
const TYPE: &[u8] = b"multipart/alternative;boundary=\"b-1\"";

fn part(headers: &str, content: &str) -> String {
    format!("--b-1\r\n{headers}\r\n\r\n{content}\r\n")
}

fn sdp_part(address: &str) -> (String, String) {
    let content = SDP.replace("192.0.2.1", address);
    (part("Content-Type: application/sdp", &content), content)
}

#[test]
fn a_plain_body_is_taken_as_it_is() {
    assert_eq!(choose_body(b"Application/SDP; charset=utf-8", b"any"), Ok(&b"any"[..]));
    assert_eq!(choose_body(b"application/isup", b"any"), Err(BodyError::ContentType));
    assert_eq!(choose_body(b"", b""), Err(BodyError::ContentType));
}

#[test]
fn the_last_usable_part_wins() {
    let (first, old) = sdp_part("192.0.2.10");
    let (second, new) = sdp_part("192.0.2.20");
    let both = format!("preamble\r\n{first}{second}--b-1--\r\nepilogue");
    assert_eq!(choose_body(TYPE, both.as_bytes()), Ok(new.as_bytes()));
    let broken = format!("{first}{}--b-1--", part("Content-Type: application/sdp", "v=9"));
    assert_eq!(choose_body(TYPE, broken.as_bytes()), Ok(old.as_bytes()));
    let attachment = "Content-Type: application/sdp\r\nContent-Disposition: attachment";
    let hidden = format!("{first}{}--b-1--", part(attachment, SDP));
    assert_eq!(choose_body(TYPE, hidden.as_bytes()), Ok(old.as_bytes()));
    let encoded = "Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64";
    assert_eq!(
        choose_body(TYPE, format!("{}--b-1--", part(encoded, SDP)).as_bytes()),
        Err(BodyError::NoUsablePart)
    );
}

#[test]
fn bare_line_feeds_and_unquoted_boundaries_are_tolerated() {
    let (only, content) = sdp_part("192.0.2.10");
    let lf = format!("{only}--b-1--\r\n").replace("\r\n", "\n");
    let found = choose_body(b"multipart/mixed; x=\"a;b\"; boundary=b-1", lf.as_bytes());
    assert_eq!(found, Ok(content.replace("\r\n", "\n").as_bytes()));
}

#[test]
fn a_boundary_that_only_begins_like_ours_is_content() {
    let content = format!("{SDP}a=x\r\n");
    let text = format!("--b-1\r\nContent-Type: application/sdp\r\n\r\n{content}--b-12\r\n--b-1--");
    // The stray line is no SDP line, so the part is not usable; it must not be cut in two either.
    assert_eq!(choose_body(TYPE, text.as_bytes()), Err(BodyError::NoUsablePart));
}

#[test]
fn broken_multiparts_are_named_errors() {
    assert_eq!(choose_body(b"multipart/mixed", b"x"), Err(BodyError::Boundary));
    assert_eq!(choose_body(b"multipart/mixed;boundary=\"", b"x"), Err(BodyError::Boundary));
    assert_eq!(choose_body(b"multipart/mixed;boundary=\"\"", b"x"), Err(BodyError::Boundary));
    assert_eq!(choose_body(TYPE, b"no delimiter"), Err(BodyError::NoUsablePart));
    assert_eq!(choose_body(TYPE, b"--b-1\r\n--b-1--"), Err(BodyError::NoUsablePart));
}

#[test]
fn boundaries_parts_headers_and_depth_are_bounded() {
    let with = |n: usize| format!("multipart/mixed;boundary={}", "b".repeat(n));
    assert_eq!(choose_body(with(BOUNDARY_BYTES_MAX).as_bytes(), b""), Err(BodyError::NoUsablePart));
    assert_eq!(choose_body(with(BOUNDARY_BYTES_MAX + 1).as_bytes(), b""), Err(BodyError::Boundary));

    let parts = |n: usize| format!("{}--b-1--", sdp_part("192.0.2.10").0.repeat(n));
    assert!(choose_body(TYPE, parts(BODY_PARTS_MAX).as_bytes()).is_ok());
    assert_eq!(choose_body(TYPE, parts(BODY_PARTS_MAX + 1).as_bytes()), Err(BodyError::Parts));

    let long = format!("Content-Type: application/sdp\r\nX: {}", "x".repeat(PART_HEADER_BYTES_MAX));
    assert_eq!(
        choose_body(TYPE, format!("{}--b-1--", part(&long, SDP)).as_bytes()),
        Err(BodyError::NoUsablePart)
    );

    let mut nested = SDP.to_owned();
    let mut content_type = "application/sdp".to_owned();
    for depth in 0..=BODY_DEPTH_MAX {
        nested = format!("--d{depth}\r\nContent-Type: {content_type}\r\n\r\n{nested}\r\n--d{depth}--");
        content_type = format!("multipart/mixed;boundary=d{depth}");
        let found = choose_body(content_type.as_bytes(), nested.as_bytes());
        assert_eq!(found, if depth < BODY_DEPTH_MAX { Ok(SDP.as_bytes()) } else { Err(BodyError::Depth) });
    }
}
