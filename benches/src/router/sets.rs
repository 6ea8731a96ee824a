//! Sets of items and questions, and vectors of texts that are kept in a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aion_router::embed::EmbedError;
use aion_router::embed::minilm::MiniLm;
use aion_router::import::{Importer, jsonl};
use aion_router::quality::{Question, questions};
use aion_router::{Blended, Embedder, Engine, EngineOptions, HashingEmbedder, Item, Provenance};
use serde_json::json;

use super::Result;

/// Texts that are embedded at once.
const BATCH: usize = 32;

/// Items, and questions whose answers are among them.
#[derive(Debug, Clone)]
pub struct Set {
    /// The items, whose words are to be believed.
    pub items: Vec<Item>,
    /// The questions.
    pub questions: Vec<Question>,
}

impl Set {
    /// Reads `items.jsonl` and `queries.jsonl` of a folder.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = |name: &str| {
            std::fs::read_to_string(folder.join(name))
                .map_err(|error| format!("{}: {error}", folder.join(name).display()))
        };
        let importer = Importer::default().with_provider("builtin", Provenance::Builtin);
        Ok(Self {
            items: jsonl(&file("items.jsonl")?, &importer)?,
            questions: questions(&file("queries.jsonl")?)?,
        })
    }

    /// The texts of the items and of so many questions.
    pub fn texts<'a>(&self, questions: impl IntoIterator<Item = &'a Question>) -> Vec<String> {
        let items = self.items.iter().map(Item::embedded_text);
        items
            .chain(questions.into_iter().map(|question| question.text.clone()))
            .collect()
    }

    /// An engine with the items and their vectors.
    ///
    /// # Errors
    /// When the embedder fails.
    pub fn engine(&self, embedder: &dyn Embedder, options: EngineOptions) -> Result<Engine> {
        let mut engine = Engine::new(options)?;
        for item in &self.items {
            add(&mut engine, item.clone(), embedder)?;
        }
        Ok(engine)
    }
}

/// Adds an item with its vector.
///
/// # Errors
/// When the embedder fails.
pub fn add(engine: &mut Engine, item: Item, embedder: &dyn Embedder) -> Result<()> {
    let (id, text) = (item.id().clone(), item.embedded_text());
    engine.upsert(item)?;
    engine.set_vector(&id, &aion_router::embed::embed_one(embedder, &text)?)?;
    Ok(())
}

/// What a peer reads: the words of items and questions, by the numbers of the items.
///
/// # Errors
/// When the file cannot be written.
pub fn write_for_peers(set: &Set, asked: &[&Question], file: &Path) -> Result<()> {
    let place: HashMap<_, usize> = (0..).zip(&set.items).map(|(i, item)| (item.id(), i)).collect();
    let asked = asked.iter().map(|question| {
        let relevant = question.relevant.iter().filter_map(|id| place.get(id));
        json!({ "text": question.text, "relevant": relevant.collect::<Vec<_>>() })
    });
    let items: Vec<String> = set.items.iter().map(Item::embedded_text).collect();
    let document = json!({ "items": items, "questions": asked.collect::<Vec<_>>() });
    std::fs::write(file, document.to_string())?;
    Ok(())
}

/// A sentence encoder that remembers, also in files from one run to the next.
#[derive(Debug)]
pub struct Remembered {
    encoder: MiniLm,
    known: HashMap<String, Vec<f32>>,
    cache: PathBuf,
}

impl Remembered {
    /// An encoder read from `minilm`, with its files in `cache`.
    ///
    /// # Errors
    /// When the encoder cannot be read.
    pub fn new(minilm: &Path, cache: &Path) -> Result<Self> {
        std::fs::create_dir_all(cache)?;
        Ok(Self {
            encoder: MiniLm::from_folder(minilm)?,
            known: HashMap::new(),
            cache: cache.to_owned(),
        })
    }

    /// The encoder itself.
    pub const fn encoder(&self) -> &MiniLm {
        &self.encoder
    }

    /// Embeds the texts now, or takes them from their file.
    ///
    /// # Errors
    /// When the encoder fails, or the file cannot be written.
    pub fn learn(&mut self, texts: &[String]) -> Result<()> {
        let name = aion_router::EmbeddingCache::key(self.encoder.model_id(), &texts.join("\n"));
        let name: String = name.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let (file, dim) = (self.cache.join(format!("{name}.f32")), self.encoder.dim());
        let vectors = match read_floats(&file) {
            Ok(vectors) if vectors.len() == texts.len() * dim => vectors,
            _ => {
                let mut vectors = vec![0.0; texts.len() * dim];
                for (texts, out) in texts.chunks(BATCH).zip(vectors.chunks_mut(BATCH * dim)) {
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    self.encoder.embed(&texts, out)?;
                }
                write_floats(&file, &vectors)?;
                vectors
            }
        };
        let rows = vectors.chunks_exact(dim).map(<[f32]>::to_vec);
        self.known.extend(texts.iter().cloned().zip(rows));
        Ok(())
    }

    /// With spelling beside meaning.
    pub fn with_spelling(&self) -> Blended<&Self, HashingEmbedder> {
        Blended::with_spelling(self)
    }
}

impl Embedder for &Remembered {
    fn model_id(&self) -> &str {
        self.encoder.model_id()
    }

    fn dim(&self) -> usize {
        self.encoder.dim()
    }

    fn embed(&self, texts: &[&str], out: &mut [f32]) -> std::result::Result<(), EmbedError> {
        for (text, row) in texts.iter().zip(out.chunks_exact_mut(self.dim())) {
            match self.known.get(*text) {
                Some(vector) => row.copy_from_slice(vector),
                None => self.encoder.embed(&[text], row)?,
            }
        }
        Ok(())
    }
}

/// Numbers of 32 bits, little-endian.
///
/// # Errors
/// When the file cannot be read.
pub fn read_floats(file: &Path) -> std::io::Result<Vec<f32>> {
    let bytes = std::fs::read(file)?;
    Ok(bytes
        .as_chunks()
        .0
        .iter()
        .map(|four| f32::from_le_bytes(*four))
        .collect())
}

/// Writes them.
///
/// # Errors
/// When the file cannot be written.
pub fn write_floats(file: &Path, numbers: &[f32]) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for x in numbers {
        out.write_all(&x.to_le_bytes())?;
    }
    out.flush()
}
