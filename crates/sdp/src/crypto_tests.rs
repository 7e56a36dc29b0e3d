use super::*;

const KEY: &str = "Dw4NDAsKCQgHBgUEAwIBABAREhMUFRYXGBkaGxwd";

fn line(rest: &str) -> Result<CryptoLine, CryptoError> {
    CryptoLine::parse(&format!("3 AES_CM_128_HMAC_SHA1_80 inline:{rest}"))
}

#[test]
fn a_lync_line_is_read_and_printed_back() {
    for rest in ["|2^31|1:1", "|2^31", "", "|1:4", "|1048576|7:2", "|2^20 WSH=64 -X=1"] {
        let text = format!("3 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{rest}");
        assert_eq!(CryptoLine::parse(&text).unwrap().to_string(), text);
    }
    let full = line(&format!("{KEY}|2^31|1:1")).unwrap();
    assert_eq!(full.tag, 3);
    assert_eq!(full.lifetime.unwrap().packets(), 1 << 31);
    assert_eq!(full.mki.unwrap().as_bytes(), [1]);
    assert_eq!((full.key.key().len(), full.key.salt().len()), (16, 14));
    assert_eq!(full.key.key()[0], 0x0f);
    assert_eq!(full.key.salt()[13], 0x1d);
}

#[test]
fn every_suite_takes_a_key_of_its_own_length_only() {
    for suite in Suite::ALL {
        let len = suite.key_bytes() + suite.salt_bytes();
        let key = KeySalt::from_bytes(suite, &vec![7; len]).unwrap();
        let line = CryptoLine::new(1, suite, key);
        assert_eq!(CryptoLine::parse(&line.to_string()).unwrap(), line);
        let unpadded = line.to_string().replace('=', "");
        assert_eq!(CryptoLine::parse(&unpadded).unwrap(), line);
        assert!(KeySalt::from_bytes(suite, &vec![7; len - 1]).is_none());
        assert!(KeySalt::from_bytes(suite, &vec![7; len + 1]).is_none());
    }
}

#[test]
fn broken_lines_are_named_errors() {
    assert_eq!(CryptoLine::parse(""), Err(CryptoError::Tag));
    assert_eq!(CryptoLine::parse("x AES_CM_128_HMAC_SHA1_80 inline:"), Err(CryptoError::Tag));
    assert_eq!(CryptoLine::parse("1234567890 AES_CM_128_HMAC_SHA1_80"), Err(CryptoError::Tag));
    assert_eq!(CryptoLine::parse("1 F8_128_HMAC_SHA1_80 inline:AAAA"), Err(CryptoError::UnknownSuite));
    assert_eq!(CryptoLine::parse("1 AES_CM_128_HMAC_SHA1_80"), Err(CryptoError::Key));
    assert_eq!(line("AAAA"), Err(CryptoError::Key));
    assert_eq!(line(&format!("{KEY};inline:{KEY}")), Err(CryptoError::Key));
    assert_eq!(line(&"A".repeat(400)), Err(CryptoError::Key));
    assert_eq!(line(&format!("{KEY}|2^49")), Err(CryptoError::Lifetime));
    assert_eq!(line(&format!("{KEY}|0")), Err(CryptoError::Lifetime));
    assert_eq!(line(&format!("{KEY}|")), Err(CryptoError::Lifetime));
    assert_eq!(line(&format!("{KEY}|2^31|300:1")), Err(CryptoError::Mki));
    assert_eq!(line(&format!("{KEY}|2^31|1:1|x")), Err(CryptoError::Mki));
}

#[test]
fn the_limits_of_a_line_hold_at_their_edge() {
    let params = |n: usize| line(&format!("{KEY}{}", " WSH=64".repeat(n)));
    assert!(params(SESSION_PARAMS_MAX).is_ok());
    assert_eq!(params(SESSION_PARAMS_MAX + 1), Err(CryptoError::SessionParams));
    assert!(line(&format!("{KEY}|2^{LIFETIME_LOG2_MAX}")).is_ok());
    let used = format!("3 AES_CM_128_HMAC_SHA1_80 inline:{KEY} -").len();
    let pad = |extra: usize| line(&format!("{KEY} -{}", "x".repeat(CRYPTO_LINE_BYTES_MAX - used + extra)));
    assert!(pad(0).is_ok());
    assert_eq!(pad(1), Err(CryptoError::TooLong));
    let scaled = format!("1 client {}", "x".repeat(CRYPTO_LINE_BYTES_MAX));
    assert_eq!(CryptoLine::parse_scaled(&scaled), Err(CryptoError::TooLong));
}

#[test]
fn parameters_that_change_the_packets_make_a_line_useless() {
    assert!(line(&format!("{KEY} WSH=128 -FOO")).unwrap().is_usable());
    for harmful in ["UNENCRYPTED_SRTP", "UNAUTHENTICATED_SRTP", "UNENCRYPTED_SRTCP", "KDR=4", "X"] {
        assert!(!line(&format!("{KEY} {harmful}")).unwrap().is_usable(), "{harmful}");
    }
}

#[test]
fn debug_shows_no_key() {
    let shown = format!("{:?}", line(KEY).unwrap());
    assert!(shown.contains("redacted"));
    assert!(!shown.contains("Dw4N") && !shown.contains("15, 14, 13"));
}
