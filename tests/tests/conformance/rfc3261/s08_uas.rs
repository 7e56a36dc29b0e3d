//! RFC 3261 §8.2: what a user agent server looks at before a request means anything, and what its answer carries.

use sip::HeaderId;

use super::{answer_to, request, status};

const GATEWAY: &str = "sip:dana@contoso.com";

#[test]
fn section_8_2_1_an_unknown_method_gets_501_and_one_without_use_405_with_allow() {
    assert_eq!(status(&answer_to(&request("NEWMETHOD", GATEWAY, ""))), 501);
    let answer = answer_to(&request("REGISTER", GATEWAY, ""));
    assert_eq!(status(&answer), 405);
    let allow = answer.value_bytes(HeaderId::Allow).expect("Allow");
    let allowed = String::from_utf8(allow.to_vec()).expect("ASCII");
    assert!(allowed.contains("INVITE") && !allowed.contains("REGISTER"), "{allowed}");
}

/// One Allow for all answers: inside a dialog both are carried, outside nobody here keeps the state they make.
#[test]
fn deviation_section_8_2_1_allow_names_subscribe_and_publish_which_get_405_outside_dialogs() {
    for method in ["SUBSCRIBE", "PUBLISH"] {
        let answer = answer_to(&request(method, GATEWAY, ""));
        assert_eq!(status(&answer), 405, "{method}");
        let allow = answer.value_bytes(HeaderId::Allow).expect("Allow");
        assert!(String::from_utf8_lossy(&allow).contains(method), "gone: {allow:?}");
    }
}

#[test]
fn section_8_2_2_1_a_request_uri_of_an_unknown_scheme_gets_416() {
    for method in ["OPTIONS", "INVITE", "MESSAGE"] {
        assert_eq!(status(&answer_to(&request(method, "soap.beep://192.0.2.103:3002", ""))), 416, "{method}");
    }
}

#[test]
fn section_8_2_2_3_an_unknown_required_extension_gets_420_and_is_named() {
    for method in ["OPTIONS", "INVITE", "MESSAGE"] {
        let answer = answer_to(&request(method, GATEWAY, "Require: timer, nobodyKnows\r\n"));
        assert_eq!(status(&answer), 420, "{method}");
        assert_eq!(
            answer.value_bytes(HeaderId::Unsupported).as_deref(),
            Some(&b"nobodyKnows"[..]),
            "{method}"
        );
    }
    assert_eq!(status(&answer_to(&request("OPTIONS", GATEWAY, "Require: timer\r\n"))), 200);
}

#[test]
fn section_8_2_6_2_an_answer_has_the_vias_from_call_id_and_cseq_of_its_request_and_a_to_tag() {
    for method in ["OPTIONS", "REGISTER", "BYE"] {
        let answer = answer_to(&request(method, GATEWAY, ""));
        let vias: Vec<_> = answer.values_bytes(HeaderId::Via).collect();
        assert_eq!(vias.len(), 2, "{method}");
        assert!(vias[0].starts_with(b"SIP/2.0/TLS 192.0.2.7:5061;branch=z9hG4bKone"), "{method}");
        assert_eq!(vias[1], &b"SIP/2.0/TCP 192.0.2.8;branch=z9hG4bKtwo"[..], "{method}");
        assert_eq!(answer.value_bytes(HeaderId::From).as_deref(), Some(&b"<sip:ken@contoso.com>;tag=f1"[..]));
        assert_eq!((answer.call_id(), answer.cseq().number), (&b"c1@192.0.2.7"[..], 7));
        assert!(answer.to_tag().is_some_and(|tag| !tag.is_empty()), "{method}");
    }
}

#[test]
fn section_11_2_the_answer_to_options_says_what_an_invite_may_bring() {
    let answer = answer_to(&request("OPTIONS", GATEWAY, ""));
    assert_eq!(status(&answer), 200);
    for id in [HeaderId::Allow, HeaderId::Accept, HeaderId::Supported] {
        assert!(answer.value_bytes(id).is_some_and(|value| !value.is_empty()), "{id:?}");
    }
}

#[test]
fn section_20_1_an_invite_whose_accept_leaves_session_descriptions_out_gets_406() {
    assert_eq!(status(&answer_to(&request("INVITE", GATEWAY, "Accept: text/nobodyKnowsThis\r\n"))), 406);
}
