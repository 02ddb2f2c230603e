//! The order of the module's functions. gzip writes what it has seen in the last 32 KiB as a reference to it, so a function
//! costs less after one that it resembles.
//!
//! Nobody else does this: wasm-opt can order functions by name or by the number of calls, which is 1.6 KB more to download.
//! `likeness.rs` says which order; this file puts the functions in it, and has everything that names one by number follow.

use std::convert::Infallible;

use anyhow::Context as _;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, FunctionSection, IndirectNameMap, Module, NameMap, NameSection};
use wasmparser::{CodeSectionReader, FunctionSectionReader, Name, NameSectionReader, Parser, Payload, TypeRef, Validator};

use super::likeness::Likeness;
use crate::size;

/// How far back likeness is looked for, in bytes. What gzip makes of an order cannot be foretold to the last hundred bytes,
/// so several are made and the smallest is taken.
pub(super) const WINDOWS_BYTES: [usize; 4] = [4_000, 6_000, 7_000, 8_000];

/// The same module with its functions in the order that compresses best.
pub(super) fn improve(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let functions = Functions::of(module)?;
    let likeness = Likeness::of(&functions.bodies);
    let mut best = module.to_vec();
    let mut best_gzip = size::gzip_bytes(&best)?;
    for window in WINDOWS_BYTES {
        let ordered = reorder(module, functions.imported, likeness.order(window))?;
        let gzip = size::gzip_bytes(&ordered)?;
        if gzip < best_gzip {
            (best, best_gzip) = (ordered, gzip);
        }
    }
    Validator::new().validate_all(&best).context("the module is not valid with its functions in another order")?;
    Ok(best)
}

/// The functions of a module, in its own order.
struct Functions<'a> {
    /// How many come from outside; they have the first numbers.
    imported: u32,
    bodies: Vec<&'a [u8]>,
}

impl<'a> Functions<'a> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other sections have no functions")]
    fn of(module: &'a [u8]) -> anyhow::Result<Self> {
        let mut functions = Self { imported: 0, bodies: Vec::new() };
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        functions.imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::CodeSectionEntry(body) => functions.bodies.extend(module.get(body.range())),
                _ => {}
            }
        }
        Ok(functions)
    }
}

/// Writes a module anew with its functions in this order: a list of their former places.
fn reorder(module: &[u8], imported: u32, order: Vec<usize>) -> anyhow::Result<Vec<u8>> {
    let mut numbers = vec![0; order.len()];
    for (number, former) in (imported..).zip(&order) {
        *numbers.get_mut(*former).context("the order names a function that is not there")? = number;
    }
    let mut written = Module::new();
    let result = Reordering { imported, order, numbers }.parse_core_module(&mut written, Parser::new(0), module);
    result.context("writing the module with its functions in another order")?;
    Ok(written.finish())
}

struct Reordering {
    imported: u32,
    order: Vec<usize>,
    /// The new number of each function of the module's own, by its former place.
    numbers: Vec<u32>,
}

impl Reordering {
    fn sorted<T: Clone>(&self, items: &[T]) -> Vec<T> {
        self.order.iter().filter_map(|former| items.get(*former).cloned()).collect()
    }

    fn number(&self, former: u32) -> u32 {
        let place = former.checked_sub(self.imported).and_then(|place| self.numbers.get(place as usize));
        place.copied().unwrap_or(former)
    }

    fn function_names(&self, names: wasmparser::NameMap<'_>) -> Written<NameMap> {
        let names = names.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<_> = names.iter().map(|named| (self.number(named.index), named.name)).collect();
        names.sort_unstable();
        let mut written = NameMap::new();
        for (number, name) in names {
            written.append(number, name);
        }
        Ok(written)
    }

    fn names_within(&self, functions: wasmparser::IndirectNameMap<'_>) -> Written<IndirectNameMap> {
        let functions = functions.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut functions: Vec<_> = functions.into_iter().map(|function| (self.number(function.index), function.names)).collect();
        functions.sort_by_key(|(number, _)| *number);
        let mut written = IndirectNameMap::new();
        for (number, names) in functions {
            written.append(number, &utils::name_map(names, Ok)?);
        }
        Ok(written)
    }
}

type Written<T = ()> = Result<T, Error<Infallible>>;

impl Reencode for Reordering {
    type Error = Infallible;

    /// Calls, references, exports, tables and the start function all ask here.
    fn function_index(&mut self, former: u32) -> Written<u32> {
        Ok(self.number(former))
    }

    fn parse_function_section(&mut self, written: &mut FunctionSection, section: FunctionSectionReader<'_>) -> Written {
        let types = section.into_iter().collect::<Result<Vec<_>, _>>()?;
        for function_type in self.sorted(&types) {
            written.function(self.type_index(function_type)?);
        }
        Ok(())
    }

    fn parse_code_section(&mut self, written: &mut CodeSection, section: CodeSectionReader<'_>) -> Written {
        let bodies = section.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.sorted(&bodies).into_iter().try_for_each(|body| self.parse_function_body(written, body))
    }

    /// A module has names when wasm-opt is told to keep them (`-g`). They stand in the order of what they name.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others name nothing that belongs to a function")]
    fn custom_name_section(&mut self, section: NameSectionReader<'_>) -> Written<NameSection> {
        let mut written = NameSection::new();
        for names in section {
            match names? {
                Name::Function(names) => written.functions(&self.function_names(names)?),
                Name::Local(functions) => written.locals(&self.names_within(functions)?),
                Name::Label(functions) => written.labels(&self.names_within(functions)?),
                other => self.parse_custom_name_subsection(&mut written, other)?,
            }
        }
        Ok(written)
    }
}

#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "the sample has few kinds of anything")]
mod tests {
    use wasm_encoder::{
        CodeSection, ConstExpr, ElementSection, Elements, ExportKind, ExportSection, Function, ImportSection, RefType,
        StartSection, TableSection, TableType, TypeSection, ValType,
    };
    use wasmparser::{ElementItems, FunctionBody, KnownCustom, Operator};

    use super::*;

    /// One function is imported, four are the module's own. Each adds another number, and calls the one after it; the last
    /// calls the import. The first is the start function, the second is exported, the third in the table, the fourth referred to.
    fn sample() -> Vec<u8> {
        let (mut types, mut imports, mut functions) = (TypeSection::new(), ImportSection::new(), FunctionSection::new());
        types.ty().function([], []);
        types.ty().function([ValType::I32], []);
        imports.import("m", "imported", wasm_encoder::EntityType::Function(0));
        let (mut code, mut names, mut locals) = (CodeSection::new(), NameMap::new(), IndirectNameMap::new());
        for index in 1..=4 {
            functions.function(u32::from(index == 3));
            let mut body = Function::new([(1, ValType::I64)]);
            let mut body_of = body.instructions();
            body_of.i32_const(1_000_000 * index).drop();
            if index == 2 {
                body_of.i32_const(0);
            }
            if index == 1 {
                body_of.ref_func(4).drop();
            }
            body_of.call(u32::try_from(index + 1).unwrap() % 5).end();
            code.function(&body);
            let number = u32::try_from(index).unwrap();
            names.append(number, &format!("function {index}"));
            let mut local = NameMap::new();
            local.append(u32::from(index == 3), &format!("local of {index}"));
            locals.append(number, &local);
        }
        let (mut tables, mut elements, mut exports, mut section) =
            (TableSection::new(), ElementSection::new(), ExportSection::new(), NameSection::new());
        tables.table(TableType { element_type: RefType::FUNCREF, table64: false, minimum: 2, maximum: None, shared: false });
        exports.export("second", ExportKind::Func, 2);
        elements.active(None, &ConstExpr::i32_const(0), Elements::Functions([3, 4].as_slice().into()));
        section.functions(&names);
        section.locals(&locals);
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&tables).section(&exports);
        module.section(&StartSection { function_index: 1 }).section(&elements).section(&code).section(&section);
        module.finish()
    }

    /// The numbers that the functions add, in the order in which they stand, and all that the module says of functions, which it
    /// calls by these numbers here.
    fn read(module: &[u8]) -> (Vec<i32>, Vec<String>) {
        Validator::new().validate_all(module).unwrap();
        let (mut order, mut said) = (vec![0], Vec::new());
        for payload in Parser::new(0).parse_all(module) {
            match payload.unwrap() {
                Payload::CodeSectionEntry(body) => order.push(read_body(&body, &mut said)),
                Payload::ExportSection(exports) => {
                    said.extend(exports.into_iter().map(Result::unwrap).map(|export| (export.name.to_owned(), export.index)));
                }
                Payload::StartSection { func, .. } => said.push(("start".to_owned(), func)),
                Payload::ElementSection(elements) => {
                    for element in elements {
                        let ElementItems::Functions(items) = element.unwrap().items else { panic!("not numbers") };
                        said.extend(items.into_iter().map(|item| ("table".to_owned(), item.unwrap())));
                    }
                }
                Payload::CustomSection(section) => {
                    let KnownCustom::Name(section) = section.as_known() else { panic!("there is no other") };
                    section.into_iter().for_each(|kind| said.extend(read_names(kind.unwrap())));
                }
                _ => {}
            }
        }
        let mut said: Vec<_> = said.into_iter().map(|(what, index)| format!("{what}: {}", order[index as usize])).collect();
        said.sort();
        (order, said)
    }

    fn read_body(body: &FunctionBody<'_>, said: &mut Vec<(String, u32)>) -> i32 {
        let mut own = None;
        for operator in body.get_operators_reader().unwrap() {
            match operator.unwrap() {
                Operator::I32Const { value } => own = own.or(Some(value / 1_000_000)),
                Operator::Call { function_index } => said.push((format!("{own:?} calls"), function_index)),
                Operator::RefFunc { function_index } => said.push((format!("{own:?} refers to"), function_index)),
                _ => {}
            }
        }
        own.unwrap()
    }

    fn read_names(kind: Name<'_>) -> Vec<(String, u32)> {
        let names: Vec<(String, u32)> = match kind {
            Name::Function(names) => {
                names.into_iter().map(Result::unwrap).map(|name| (name.name.to_owned(), name.index)).collect()
            }
            Name::Local(functions) => {
                let name = |names: wasmparser::NameMap<'_>| names.into_iter().next().unwrap().unwrap().name.to_owned();
                functions.into_iter().map(Result::unwrap).map(|of| (name(of.names), of.index)).collect()
            }
            _ => panic!("there are no other names"),
        };
        assert!(names.is_sorted_by_key(|(_, index)| *index), "{names:?}");
        names
    }

    #[test]
    fn everything_that_names_a_function_follows_it() {
        let module = sample();
        let (order, said) = read(&module);
        assert_eq!((order, said.len()), (vec![0, 1, 2, 3, 4], 17));
        let reordered = reorder(&module, 1, vec![2, 0, 3, 1]).unwrap();
        assert_eq!(read(&reordered), (vec![0, 3, 1, 4, 2], said));
    }

    #[test]
    fn an_order_that_names_no_function_is_refused() {
        assert!(reorder(&sample(), 1, vec![4, 0, 1, 2]).is_err());
    }

    #[test]
    fn the_result_is_never_larger_and_always_the_same() {
        let module = sample();
        let improved = improve(&module).unwrap();
        assert!(size::gzip_bytes(&improved).unwrap() <= size::gzip_bytes(&module).unwrap());
        assert_eq!(improve(&module).unwrap(), improved);
        assert_eq!(read(&improved).1, read(&module).1);
    }
}
