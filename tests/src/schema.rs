//! A JSON Schema, and a validator of somebody else's who holds documents against it.

use anyhow::{Result, anyhow};
use boon::{CompileError, Compiler, SchemaIndex, Schemas};
use serde_json::Value;

/// A schema that was found to be one.
pub struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    /// Reads a schema, and holds it against the draft of JSON Schema that it names.
    ///
    /// # Errors
    /// It is none, or refers to what is not in it.
    pub fn read(text: &str) -> Result<Self> {
        const HERE: &str = "file:///schema.json";
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        // Its errors name the cause only in the alternate form.
        let said = |error: CompileError| anyhow!("{error:#}");
        compiler.add_resource(HERE, serde_json::from_str(text)?).map_err(said)?;
        let index = compiler.compile(HERE, &mut schemas).map_err(said)?;
        Ok(Self { schemas, index })
    }

    /// Holds a document against it.
    ///
    /// # Errors
    /// What is wrong with the document, and where.
    pub fn validate(&self, document: &Value) -> Result<()> {
        self.schemas.validate(document, self.index).map_err(|error| anyhow!("{error:#}"))
    }
}
