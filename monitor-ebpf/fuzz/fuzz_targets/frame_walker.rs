#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| monitor_ebpf::fuzz::frame_walker(input));
