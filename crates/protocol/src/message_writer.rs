//! How the client writes what it says and stores. What only a server writes is written by serde.

use alloc::string::String;
use alloc::vec::Vec;

use crate::json::{Array, Object};
use crate::{ClientMessage, ErrorDetail, Hello, Identity, Push};

impl Identity {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text_or_null("user_id", self.user_id.as_deref());
        object.text_or_null("tenant_id", self.tenant_id.as_deref());
        object.end();
    }
}

impl ErrorDetail {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("code", &self.code);
        object.text("message", &self.message);
        if let Some(hint) = &self.hint {
            object.text("hint", hint);
        }
        if let Some(seq) = self.oldest_seq {
            object.uint("oldest_seq", seq);
        }
        if let Some(secs) = self.retry_after_secs {
            object.uint("retry_after_secs", secs);
        }
        object.end();
    }
}

impl ClientMessage {
    /// Encodes it as a text frame.
    pub fn encode(&self) -> String {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        match self {
            Self::Hello(hello) => hello.write(&mut object),
            Self::Resume(resume) => {
                object.text("type", "resume");
                object.text("cursor", &resume.cursor);
            }
            Self::Push(push) => push.write(&mut object),
            Self::Heartbeat => object.text("type", "heartbeat"),
        }
        object.end();
        crate::json::finish(out)
    }
}

impl Hello {
    fn write(&self, object: &mut Object<'_>) {
        object.text("type", "hello");
        object.uint("protocol", u64::from(self.protocol));
        object.text("client_id", self.client_id.as_str());
        self.identity.write(object.name("identity"));
        object.text_or_null("cursor", self.cursor.as_deref());
        object.uint("schema", u64::from(self.schema));
        if let Some(scopes) = &self.scopes {
            object.texts("scopes", &mut scopes.iter().map(String::as_str));
        }
        object.uint("fence", self.fence);
    }
}

impl Push {
    fn write(&self, object: &mut Object<'_>) {
        object.text("type", "push");
        object.uint("id", self.id);
        object.text("client_id", self.client_id.as_str());
        self.identity.write(object.name("identity"));
        object.text_or_null("cursor", self.cursor.as_deref());
        object.uint("fence", self.fence);
        let mut transactions = Array::begin(object.name("transactions"));
        for transaction in &self.transactions {
            transactions.item().extend_from_slice(transaction.get().as_bytes());
        }
        transactions.end();
        if !self.processed.is_empty() {
            object.texts("processed", &mut self.processed.iter().map(crate::OpId::as_str));
        }
    }
}
