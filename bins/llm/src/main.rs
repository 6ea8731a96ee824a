//! The model server's program: flags, then serve.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use aion_llm::{DeviceSpec, Engine, EngineOptions, ModelSource};
use aion_llm_server::{DEFAULT_PORT, LlmOptions, TextEncoder, service_with_encoder};
use aion_types::Reference;
use clap::Parser;

/// Serve a local language model by OpenAI's protocol.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// GGUF file, or directory with config.json, safetensors and tokenizer.json
    #[arg(long, env = "AION_LLM_MODEL", value_name = "PATH")]
    model: PathBuf,
    /// Name that the model answers to
    #[arg(long, env = "AION_LLM_MODEL_NAME")]
    name: Option<String>,
    /// auto, cpu, flex, wgpu or cuda:N
    #[arg(long, env = "AION_LLM_DEVICE", default_value_t)]
    device: DeviceSpec,
    /// Threads of the processor; one for each core by default
    #[arg(long, env = "AION_LLM_THREADS")]
    threads: Option<usize>,
    /// Positions of the context window; the model's own by default
    #[arg(long, env = "AION_LLM_CONTEXT")]
    context: Option<usize>,
    /// What persistence is measured against: uniform, unigram, entropy or teacher; by default unigram where the model
    /// has counts, else uniform
    #[arg(long, env = "AION_LLM_REFERENCE", value_parser = reference)]
    reference: Option<Reference>,
    /// The model of the reference `teacher`
    #[arg(long, env = "AION_LLM_TEACHER", value_name = "PATH")]
    teacher: Option<PathBuf>,
    /// Sequences that run at once; 16 by default
    #[arg(long, env = "AION_LLM_SEQUENCES")]
    sequences: Option<usize>,
    /// Mebibytes of keys and values; by default half of what the weights leave of the memory
    #[arg(long, env = "AION_LLM_CACHE_MIB", value_name = "MIB")]
    cache_mib: Option<usize>,
    /// Requests that wait beside those that run
    #[arg(long, env = "AION_LLM_QUEUE", default_value_t = 16)]
    queue: usize,
    /// Folder of a sentence encoder (all-MiniLM-L6-v2 and its like) for /v1/embeddings
    #[cfg(feature = "minilm")]
    #[arg(long, env = "AION_LLM_EMBEDDINGS", value_name = "PATH")]
    embeddings: Option<PathBuf>,
    #[command(flatten)]
    serve: aion_service::ServeArgs,
}

impl Cli {
    fn engine_options(&self) -> EngineOptions {
        let mut options = EngineOptions::default().with_device(self.device);
        if let Some(threads) = self.threads {
            options = options.with_threads(threads);
        }
        if let Some(positions) = self.context {
            options = options.with_context_length(positions);
        }
        if let Some(sequences) = self.sequences {
            options = options.with_sequences(sequences);
        }
        if let Some(mib) = self.cache_mib {
            options = options.with_cache_bytes(mib.saturating_mul(1 << 20));
        }
        if let Some(teacher) = &self.teacher {
            options = options.with_teacher(ModelSource::at(teacher));
        }
        if let Some(reference) = self.reference {
            options = options.with_reference(reference);
        }
        if let Some(name) = &self.name {
            options = options.with_name(name);
        }
        options
    }

    #[cfg(feature = "minilm")]
    fn encoder(&self) -> Result<Option<Arc<dyn TextEncoder>>, String> {
        let read = |folder: &PathBuf| aion_llm_server::MiniLmEncoder::from_folder(folder);
        let encoder = self.embeddings.as_ref().map(read).transpose()?;
        Ok(encoder.map(|encoder| -> Arc<dyn TextEncoder> { Arc::new(encoder) }))
    }

    #[cfg(not(feature = "minilm"))]
    fn encoder(&self) -> Result<Option<Arc<dyn TextEncoder>>, String> {
        Ok(None)
    }
}

/// A reference by the name that `usage.persistence` has for it.
fn reference(text: &str) -> Result<Reference, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| "known are uniform, unigram, entropy and teacher".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aion-llm-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let encoder = cli.encoder()?;
    let serve = cli.serve.resolve(DEFAULT_PORT)?;
    let (source, engine) = (ModelSource::at(&cli.model), cli.engine_options());
    let load = move || Engine::load(&source, engine).map_err(|error| aion_service::chain(&error));
    let options = LlmOptions::default().with_queue(cli.queue);
    aion_service::run(service_with_encoder(load, options, encoder), serve).await?;
    Ok(())
}
