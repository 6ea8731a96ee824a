//! The file of a model: JSON with every number exact, and a digest over all of it.

use serde::{Deserialize, Serialize};

use super::model::{LogisticModel, ModelError, Parts};

/// The largest file that is read.
pub(super) const MAX_BYTES: usize = 64 << 20;
const FORMAT: &str = "aion.logistic";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    /// blake3 of the model's JSON, hex.
    digest: String,
    model: Parts,
}

/// Only what every version has.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl LogisticModel {
    /// The model as a file: JSON, the digest of its contents inside.
    ///
    /// # Errors
    /// [`ModelError::Unreadable`] never for a model that was fitted.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let file = File {
            format: FORMAT.to_owned(),
            version: VERSION,
            digest: self.digest()?,
            model: self.parts().clone(),
        };
        serde_json::to_vec(&file).map_err(ModelError::Unreadable)
    }

    /// A model from a file.
    ///
    /// # Errors
    /// [`ModelError`] for another format or version, a wrong digest, another schema of features, or
    /// numbers that no fit gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        if bytes.len() > MAX_BYTES {
            return Err(ModelError::TooLarge { limit: MAX_BYTES });
        }
        let head: Head = serde_json::from_slice(bytes).map_err(ModelError::Unreadable)?;
        if head.format != FORMAT || head.version != VERSION {
            return Err(ModelError::WrongFormat {
                format: head.format.chars().take(64).collect(),
                version: head.version,
            });
        }
        let file: File = serde_json::from_slice(bytes).map_err(ModelError::Unreadable)?;
        let model = Self::from_parts(file.model)?;
        let found = model.digest()?;
        if found != file.digest {
            return Err(ModelError::WrongDigest {
                stated: file.digest.chars().take(64).collect(),
                found,
            });
        }
        Ok(model)
    }

    /// blake3 over everything that the model is, hex.
    ///
    /// # Errors
    /// [`ModelError::Unreadable`] never for a model that was fitted.
    pub fn digest(&self) -> Result<String, ModelError> {
        let bytes = serde_json::to_vec(self.parts()).map_err(ModelError::Unreadable)?;
        Ok(blake3::hash(&bytes).to_hex().to_string())
    }
}

/// Numbers as the 16 hex digits of their bits: what is read is what was written.
pub(super) mod exact {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        let text: String = values
            .iter()
            .map(|value| format!("{:016x}", value.to_bits()))
            .collect();
        text.serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(from)?;
        let wrong = || D::Error::custom("numbers are 16 hex digits each");
        if text.len() % 16 != 0 || !text.is_ascii() {
            return Err(wrong());
        }
        (0..text.len() / 16)
            .map(|i| u64::from_str_radix(&text[16 * i..16 * (i + 1)], 16))
            .map(|bits| bits.map(f64::from_bits).map_err(|_| wrong()))
            .collect()
    }
}
