//! The run file of a crashed daemon, with any damage.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpd_common::run_file::RunFile;

fuzz_target!(|bytes: &[u8]| {
    let file = std::env::temp_dir().join(format!("mcpd-fuzz-{}", std::process::id()));
    std::fs::write(&file, bytes).expect("a temporary file");
    match RunFile::read(&file) {
        Ok(Some(run)) => assert!(!serde_json::to_string(&run).expect("it was read").is_empty()),
        Ok(None) => panic!("the file exists"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    std::fs::remove_file(&file).expect("created here");
});
