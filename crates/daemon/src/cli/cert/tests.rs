//! Words typed and words printed.

use b2bua::codes;

use super::finding;
use super::target::Target;
use crate::cli::screen::Style;

#[test]
fn hosts_and_ports_are_read_as_people_write_them() {
    let read = |text: &str| text.parse::<Target>().map(|target| (target.host, target.port));
    assert_eq!(read("MBX01.contoso.test:5063"), Ok(("mbx01.contoso.test".to_owned(), 5063)));
    assert_eq!(read("cas01"), Ok(("cas01".to_owned(), 5061)));
    assert_eq!(read("[2001:db8::1]:5063"), Ok(("2001:db8::1".to_owned(), 5063)));
    assert_eq!(read("2001:db8::1"), Ok(("2001:db8::1".to_owned(), 5061)));
    assert_eq!("[::1]".parse::<Target>().unwrap().to_string(), "[::1]:5061");
    for bad in ["", ":5061", "a:0", "a:65536", "a:x", "a b:1", "[::1]5061", "a\u{1b}[2J", &"a".repeat(300)] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_finding_says_cause_and_fix_of_each_side_and_cannot_steer_the_terminal() {
    let list = [
        finding::warning(codes::EXPIRES_SOON, "ends soon"),
        finding::error(codes::UNTRUSTED_CHAIN, "evil\u{1b}[2J"),
    ];
    let shown = finding::list(&list, Style::Plain);
    assert!(shown.find("FAIL") < shown.find("warn"), "{shown}");
    assert!(
        shown.contains("Fix (Exchange): ") && shown.contains("Fix (Umbra): ") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    assert!(finding::summary(&list).contains("1 failed, 1 to look at   umbra explain UMB-TLS002"));
    assert!(finding::summary(&[]).is_empty());
}
