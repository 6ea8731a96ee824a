//! The steps from text to ids, with one vocabulary for all ways of taking special tokens.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{
    DecoderWrapper, Model, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Token,
    TokenizerImpl,
};

use super::pairs::Pairs;

/// Special tokens, white space, words, merges. Clones share the vocabulary.
pub(super) type Encoder =
    TokenizerImpl<Words, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// What cuts a word into tokens.
#[derive(Debug, Clone)]
pub(super) enum Words {
    /// Our own tables.
    Pairs(Arc<Pairs>),
    /// A model of the library, read from a `tokenizer.json`.
    Library(Arc<ModelWrapper>),
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ModelWrapper::deserialize(deserializer).map(|model| Self::Library(Arc::new(model)))
    }
}

impl Model for Words {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, word: &str) -> tokenizers::Result<Vec<Token>> {
        let pairs = match self {
            Self::Pairs(pairs) => pairs,
            Self::Library(model) => return model.tokenize(word),
        };
        let mut start = 0;
        let token = |piece: super::pairs::Piece| {
            let end = start + piece.len as usize;
            // Nobody asks for the text of a token here.
            let token = Token::new(piece.id, String::new(), (start, end));
            start = end;
            token
        };
        Ok(pairs.pieces(word).into_iter().map(token).collect())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            Self::Pairs(pairs) => pairs.vocabulary.id(token),
            Self::Library(model) => model.token_to_id(token),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        match self {
            Self::Pairs(pairs) => pairs.vocabulary.text(id).map(str::to_owned),
            Self::Library(model) => model.id_to_token(id),
        }
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match self {
            Self::Pairs(pairs) => (0..pairs.vocabulary.len() as u32)
                .filter_map(|id| Some((pairs.vocabulary.text(id)?.to_owned(), id)))
                .collect(),
            Self::Library(model) => model.get_vocab(),
        }
    }

    fn get_vocab_size(&self) -> usize {
        match self {
            Self::Pairs(pairs) => pairs.vocabulary.len(),
            Self::Library(model) => model.get_vocab_size(),
        }
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        match self {
            Self::Pairs(_) => Err("tables of ids are not saved".into()),
            Self::Library(model) => model.save(folder, prefix),
        }
    }

    fn get_trainer(&self) -> TrainerWrapper {
        match self {
            Self::Pairs(_) => BpeTrainer::default().into(),
            Self::Library(model) => model.get_trainer(),
        }
    }
}

/// The same vocabulary for the texts of templates and those of people, at the start of a text and within.
#[derive(Debug, Clone)]
pub(super) struct Encoders {
    recognising: Encoder,
    spelling: Encoder,
    /// Both without the space before the first word, for vocabularies that begin every text with one.
    inside: Option<Box<(Encoder, Encoder)>>,
}

impl Encoders {
    /// `inside` says what stands before the words of a text that goes on, where that differs.
    pub(super) fn new(encoder: Encoder, inside: Option<NormalizerWrapper>) -> tokenizers::Result<Self> {
        let inside = inside.map(|normalizer| -> tokenizers::Result<_> {
            let mut within = encoder.clone();
            within.with_normalizer(Some(normalizer))?;
            Ok(Box::new((within.clone(), spelling(within))))
        });
        Ok(Self {
            spelling: spelling(encoder.clone()),
            inside: inside.transpose()?,
            recognising: encoder,
        })
    }

    pub(super) fn recognising(&self) -> &Encoder {
        &self.recognising
    }

    pub(super) fn of(&self, specials: super::Specials, place: super::Place) -> &Encoder {
        use super::{Place, Specials};
        match (specials, place, self.inside.as_deref()) {
            (Specials::Recognise, Place::Inside, Some((inside, _))) => inside,
            (Specials::AsText, Place::Inside, Some((_, inside))) => inside,
            (Specials::Recognise, ..) => &self.recognising,
            (Specials::AsText, ..) => &self.spelling,
        }
    }

    /// Whether a space is put before every text.
    pub(super) fn adds_space(&self) -> bool {
        self.inside.is_some()
    }
}

fn spelling(mut encoder: Encoder) -> Encoder {
    encoder.set_encode_special_tokens(true);
    encoder
}
