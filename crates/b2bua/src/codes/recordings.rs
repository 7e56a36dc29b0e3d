//! `UMB-REC`: what is kept of calls on disk beside their records.

use super::registry;

registry! {
    RECORDING_ON = "UMB-REC001", "calls are recorded", sip None, ms None,
        cause "`recording` in [media] names dial plans: the audio of both sides of their calls is written to disk, with pressed keys silenced. Nobody in the call is told.",
        exchange "", lync "", umbra "Make sure that the law where callers and called are allows it and that everybody whose consent it asks for has given it, or take `recording` out.";
    RECORDING_UNWRITTEN = "UMB-REC002", "a recording cannot be written", sip None, ms None,
        cause "The folder or the file cannot be made or written: rights, a disk that is full or gone. The call goes on without it.",
        exchange "", lync "", umbra "Let the gateway's user write to `directory` of `recording` in [media], and look at the disk.";
    RECORDINGS_FULL = "UMB-REC003", "as many recordings as allowed", sip None, ms None,
        cause "The folder holds `total` octets or `files_max` files. The gateway deletes none.",
        exchange "", lync "", umbra "Move recordings elsewhere, or raise `total` and `files_max`; the folder is looked at again every 10 s.";
    CAPTURE_ON = "UMB-REC004", "calls are captured", sip None, ms None,
        cause "`capture` in [observe] names a folder: SIP messages, and with `media = \"rtp\"` the decrypted audio, of calls are written to disk. Keys and pressed keys are blank, names, numbers and speech are not.",
        exchange "", lync "", umbra "With `media = \"rtp\"` the law on recordings holds for captures too. Take `capture` out when the fault is found.";
    CAPTURE_UNWRITTEN = "UMB-REC005", "a capture cannot be written", sip None, ms None,
        cause "The folder or the file cannot be made or written, or holds as much as `total` and `files_max` allow. Calls go on.",
        exchange "", lync "", umbra "Let the gateway's user write to `directory` of `capture` in [observe], make room, or raise the limits.";
}
