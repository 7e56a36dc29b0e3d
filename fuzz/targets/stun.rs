#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| umbra_tests::targets::stun(input));
