//! A model in fewer bits: `cargo run -p aion-examples --example quantize [-- MODEL OUT.gguf]`
//!
//! Without arguments it makes a tiny random model, writes it as a checkpoint directory with checksums, and quantises
//! that; with a GGUF file or a directory of float weights it quantises that one. Expect: for each type the size, the
//! relative error of the weights, and what a text costs before and after in bits per byte.
#![allow(clippy::print_stdout)]

use std::ops::ControlFlow;
use std::path::PathBuf;

use aion_llm::testkit::TinyModel;
use aion_llm::{
    Engine, EngineOptions, ModelSource, Overwrite, Quantization, bits_per_byte, quantize, save_checkpoint,
};

const TEXT: &str =
    "The ferry waits while the river is high, and then it runs again. Nobody asks it to hurry.";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let scratch = std::env::temp_dir().join(format!("aion-quantize-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let source = match arguments.next() {
        Some(path) => ModelSource::at(path),
        None => {
            let dir = scratch.join("tiny");
            let manifest = save_checkpoint(&TinyModel::in_blocks(1).source(), &dir, Overwrite::Replace)?;
            println!("{} files in {}", manifest.files.len(), dir.display());
            ModelSource::at(dir)
        }
    };
    let named = arguments.next().map(PathBuf::from);
    let before = loss(&source)?;
    println!("before: {before:.4} bits per byte");
    for kind in Quantization::ALL {
        let to = scratch.join(format!("{kind}.gguf"));
        let report = quantize(&source, &to, kind, Overwrite::Replace, &mut |_| {
            ControlFlow::Continue(())
        })?;
        let after = loss(&ModelSource::at(&to))?;
        println!(
            "{kind}: {} to {} bytes, relative error {:.4}, {after:.4} bits per byte ({:+.4})",
            report.bytes_before,
            report.bytes_after,
            report.relative_error,
            after - before
        );
        if let (Quantization::Q8_0, Some(out)) = (kind, &named) {
            std::fs::copy(&to, out)?;
            println!("kept as {}", out.display());
        }
    }
    std::fs::remove_dir_all(&scratch)?;
    Ok(())
}

fn loss(source: &ModelSource) -> Result<f64, aion_llm::Error> {
    let engine = Engine::load(source, EngineOptions::default().with_context_length(512))?;
    bits_per_byte(&engine, TEXT)
}
