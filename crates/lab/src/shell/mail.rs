//! Mail as UM sends it to the owner of a mailbox: a voice message with its sound attached, a missed call, a new PIN. Owns the words and the MIME
//! shape (by lettre); the files lie in the voicemail folder, and `smtp` sends them where the lab has a sink.

use lettre::Message;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};

use crate::um::{MessageNote, MissedCall, PinLetter};

/// Why a mail could not be written.
#[derive(Debug, thiserror::Error)]
#[error("mail to {to}: {why}")]
pub struct MailError {
    to: String,
    why: String,
}

/// A voice message with its WAV file.
pub(super) fn voice_message(note: &MessageNote, name: &str, wav: Vec<u8>) -> Result<Vec<u8>, MailError> {
    let from = shown(&note.caller);
    let words = format!(
        "Voice message from {from}\r\nReceived {}\r\nLength {:.1} s\r\n",
        note.started_utc, note.duration_s
    );
    let subject = format!("Voice message from {from} ({:.0} s)", note.duration_s);
    let attached = |to: &str| {
        let kind = ContentType::parse("audio/wav").map_err(|why| fail(to, why))?;
        let sound = Attachment::new(name.to_owned()).body(wav, kind);
        Ok(MultiPart::mixed().singlepart(SinglePart::plain(words)).singlepart(sound))
    };
    let to = address(&note.mailbox, &note.server);
    let parts = attached(&to)?;
    finished(&to, &note.server, &subject, |mail| mail.multipart(parts))
}

/// A call that left nothing.
pub(super) fn missed_call(missed: &MissedCall) -> Result<Vec<u8>, MailError> {
    let from = shown(&missed.purpose.caller);
    let subject = format!("Missed call from {from}");
    let words = format!("You missed a call from {from}.\r\n");
    finished(&address(&missed.mailbox, &missed.server), &missed.server, &subject, |mail| {
        mail.singlepart(SinglePart::plain(words))
    })
}

/// A new PIN, for its owner's eyes.
pub(super) fn new_pin(letter: &PinLetter) -> Result<Vec<u8>, MailError> {
    let words = format!("After too many wrong attempts your PIN is now {}.\r\n", letter.pin.reveal());
    finished(&address(&letter.mailbox, &letter.server), &letter.server, "Your new voice access PIN", |mail| {
        mail.singlepart(SinglePart::plain(words))
    })
}

fn finished(
    to: &str,
    server: &str,
    subject: &str,
    body: impl FnOnce(lettre::message::MessageBuilder) -> Result<Message, lettre::error::Error>,
) -> Result<Vec<u8>, MailError> {
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|why| fail(to, why));
    let head = Message::builder().from(mailbox(&address("voicemail", server))?).to(mailbox(to)?);
    let mail = body(head.subject(subject)).map_err(|why| fail(to, why))?;
    Ok(mail.formatted())
}

fn fail(to: &str, why: impl std::fmt::Display) -> MailError {
    MailError { to: to.to_owned(), why: why.to_string() }
}

/// The alias in the domain of the server that took the call.
pub(super) fn address(alias: &str, server: &str) -> String {
    let domain = server.split_once('.').map_or(server, |(_, domain)| domain);
    format!("{alias}@{domain}")
}

/// A caller's address without its scheme and parameters. What came by the network has lost its control characters before.
fn shown(caller: &str) -> &str {
    let rest = caller.split_once(':').map_or(caller, |(_, rest)| rest);
    rest.split([';', '?']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{tone, write_wav};
    use crate::um::{CallKind, CallPurpose, EndReason, Pin};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    const SERVER: &str = "mbx01.contoso.test";

    fn purpose(caller: &str) -> CallPurpose {
        CallPurpose {
            kind: CallKind::CallAnswering,
            for_whom: "ken".to_owned(),
            caller: caller.to_owned(),
            diversion_reason: None,
            phone_context: None,
        }
    }

    fn note(caller: &str) -> MessageNote {
        MessageNote {
            mailbox: "ken".to_owned(),
            caller: caller.to_owned(),
            purpose: purpose(caller),
            server: SERVER.to_owned(),
            call_id: "c".to_owned(),
            security: "Secured".to_owned(),
            codec: "PCMU".to_owned(),
            started_utc: "2026-11-22T10:00:00Z".to_owned(),
            duration_s: 4.2,
            level_dbfs: -15.0,
            dominant_hz: None,
            end: EndReason::CallerHungUp,
            x_call_id: None,
            heard: false,
        }
    }

    fn text(mail: Vec<u8>) -> String {
        String::from_utf8(mail).unwrap()
    }

    #[test]
    fn a_voice_message_has_its_sound_attached_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0001.wav");
        write_wav(&path, &tone(440.0, -15.0, 800)).unwrap();
        let wav = std::fs::read(&path).unwrap();
        let mail = text(voice_message(&note("sip:dana@contoso.test;x=1"), "0001.wav", wav.clone()).unwrap());
        for line in [
            "From: voicemail@contoso.test\r\n",
            "To: ken@contoso.test\r\n",
            "Subject: Voice message from dana@contoso.test (4 s)\r\n",
            "Content-Type: multipart/mixed;",
            "Content-Type: audio/wav\r\n",
            "Content-Disposition: attachment; filename=\"0001.wav\"\r\n",
        ] {
            assert!(mail.contains(line), "{line} is missing:\n{mail}");
        }
        let attached =
            mail.split("Content-Type: audio/wav").nth(1).unwrap().split("\r\n\r\n").nth(1).unwrap();
        let encoded: String = attached.split("\r\n--").next().unwrap().split_whitespace().collect();
        assert_eq!(STANDARD.decode(encoded).unwrap(), wav);
    }

    #[test]
    fn a_caller_cannot_write_header_lines() {
        let missed = MissedCall {
            mailbox: "ken".to_owned(),
            purpose: purpose("sip:x\r\nBcc: all@contoso.test"),
            server: SERVER.to_owned(),
            call_id: "c".to_owned(),
            x_call_id: None,
        };
        let mail = text(missed_call(&missed).unwrap());
        let head = mail.split("\r\n\r\n").next().unwrap();
        assert!(head.contains("Subject: ") && !head.contains("\r\nBcc"), "{head}");
    }

    #[test]
    fn the_letter_with_a_pin_holds_it_and_an_address_that_is_none_is_refused() {
        let pin = Pin::new("246802").unwrap();
        let letter = PinLetter { mailbox: "ken".to_owned(), server: SERVER.to_owned(), pin };
        assert!(text(new_pin(&letter).unwrap()).contains("246802"));
        assert!(new_pin(&PinLetter { mailbox: "a b".to_owned(), ..letter }).is_err());
    }
}
