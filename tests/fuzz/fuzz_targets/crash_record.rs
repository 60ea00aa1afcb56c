//! The guardian's crash record with any damage: readable lines are kept, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpd_common::crash::CrashRecord;

fuzz_target!(|bytes: &[u8]| {
    let Some(record) = CrashRecord::parse(bytes) else { return };
    let report = record.report(None);
    assert_eq!(report.run, record.run);
    assert_eq!(report.exit_code, record.exit_code());
    assert!(!record.sentence().is_empty());
    assert!(serde_json::to_string(&report).is_ok_and(|json| !json.is_empty()));
});
