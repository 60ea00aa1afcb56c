//! The arguments of exec(3), made before the fork: the child must not allocate.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;

use nix::libc;

use super::{MARK_VARIABLE, SpawnPlan};

/// Working directory, program, arguments and environment.
pub(super) struct ExecImage {
    pub(super) directory: CString,
    pub(super) args: CStringArray,
    pub(super) env: CStringArray,
}

impl ExecImage {
    /// # Errors
    /// When a text contains a NUL byte.
    pub(super) fn new(plan: &SpawnPlan) -> io::Result<Self> {
        let program = plan.program.as_os_str();
        let args = std::iter::once(program).chain(plan.args.iter().map(OsString::as_os_str));
        let others = plan.env.iter().filter(|(key, _)| key != MARK_VARIABLE);
        let mark = OsString::from(format!("{:x}", plan.mark.to_limit()));
        let env = others
            .map(|(key, value)| variable(key, value))
            .chain([variable(OsStr::new(MARK_VARIABLE), &mark)]);
        Ok(Self {
            directory: c_string(plan.directory.as_os_str())?,
            args: CStringArray::new(args.map(c_string).collect::<io::Result<_>>()?),
            env: CStringArray::new(env.collect::<io::Result<_>>()?),
        })
    }

    pub(super) fn program(&self) -> &CStr {
        self.args.first()
    }
}

/// Strings as exec(3) takes them: pointers, and a null pointer at the end.
pub(super) struct CStringArray {
    /// The first one is the program or a variable; neither list is empty.
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl CStringArray {
    fn new(strings: Vec<CString>) -> Self {
        // The text of a CString stays where it is when the CString is moved.
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Self { strings, pointers }
    }

    fn first(&self) -> &CStr {
        &self.strings[0]
    }

    pub(super) fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

fn variable(key: &OsStr, value: &OsStr) -> io::Result<CString> {
    let mut text = key.to_owned();
    text.push("=");
    text.push(value);
    Ok(CString::new(text.into_vec())?)
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}
