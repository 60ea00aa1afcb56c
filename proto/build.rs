//! Compiles the control service without `protoc`, and stores its descriptors for the reflection service.

use std::path::PathBuf;
use std::{env, error, fs};

const PROTO: &str = "mcpd/v1/control.proto";

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true).open_file(PROTO)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("control.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
