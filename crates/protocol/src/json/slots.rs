//! Reads the members of an object whose shape is known.

use alloc::string::String;

use super::Reader;

/// Where the value of a member goes, and what it may be.
#[expect(missing_debug_implementations, reason = "it holds callbacks")]
pub enum Slot<'s, 'a> {
    /// A text.
    Text(&'s mut String),
    /// A text or `null`.
    OptionalText(&'s mut Option<String>),
    /// A whole number from zero on.
    Uint(&'s mut u64),
    /// The same or `null`.
    OptionalUint(&'s mut Option<u64>),
    /// A whole number of 32 bits.
    Uint32(&'s mut u32),
    /// `true` or `false`.
    Bool(&'s mut bool),
    /// Anything, as it stands; `null` is none.
    Raw(&'s mut Option<&'a str>),
    /// What the callback reads.
    Nested(&'s mut dyn FnMut(&mut Reader<'a>)),
    /// The same or `null`.
    OptionalNested(&'s mut dyn FnMut(&mut Reader<'a>)),
}

/// A name and the place for its value.
pub type Member<'s, 'a> = (&'static str, Slot<'s, 'a>);

impl<'a> Slot<'_, 'a> {
    fn fill(&mut self, reader: &mut Reader<'a>) {
        let optional = matches!(self, Self::OptionalText(_) | Self::OptionalUint(_) | Self::Raw(_) | Self::OptionalNested(_));
        if optional && reader.null() {
            return;
        }
        match self {
            Self::Text(place) => **place = reader.text().into_owned(),
            Self::OptionalText(place) => **place = Some(reader.text().into_owned()),
            Self::Uint(place) => **place = reader.uint(),
            Self::OptionalUint(place) => **place = Some(reader.uint()),
            Self::Uint32(place) => match u32::try_from(reader.uint()) {
                Ok(number) => **place = number,
                Err(_) => reader.fail("the number is too large"),
            },
            Self::Bool(place) => **place = reader.bool(),
            Self::Raw(place) => **place = Some(reader.raw()),
            Self::Nested(read) | Self::OptionalNested(read) => read(reader),
        }
    }
}

impl<'a> Reader<'a> {
    /// Reads the named members of an object and passes over others. One that is repeated or missing is an error; an optional
    /// one may be missing.
    pub fn members<'s>(&mut self, required: &mut [Member<'s, 'a>], optional: &mut [Member<'s, 'a>]) {
        let mut seen = 0_u32;
        let mut list = self.object();
        while let Some(name) = self.next_name(&mut list) {
            let mut known = required.iter_mut().chain(&mut *optional).enumerate();
            let Some((place, (known, slot))) = known.find(|(_, (known, _))| *known == name) else {
                self.skip();
                continue;
            };
            if seen & 1 << place != 0 {
                self.fail(["duplicate field `", known, "`"].concat());
            }
            seen |= 1 << place;
            slot.fill(self);
        }
        if let Some((missing, _)) = required.get(seen.trailing_ones() as usize) {
            self.fail(["missing field `", missing, "`"].concat());
        }
    }
}
