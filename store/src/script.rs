//! Rows without a store: what the tests of other crates configure their parts with.
//!
//! Completes, checks and packs as a write through the Admin API does; pointers are not followed.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::check::{self, Facts, Mode};
use crate::fault::Fault;
use crate::schema::Catalogue;
use crate::snapshot::Tables;
use crate::value::{Row, Value};

/// A row of an entity.
///
/// # Errors
/// Kong's words for what is wrong with it.
pub fn row(catalogue: &Catalogue, entity: &str, input: &Json) -> Result<Arc<Row>, String> {
    let entity = catalogue.entity(entity).ok_or_else(|| format!("no entity {entity}"))?;
    let input = Value::from(input.clone());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
    };
    let mut facts = Facts { now_s: 1_795_262_400, now_ms: 1_795_262_400_000, random: &mut random };
    let checked = check::complete(catalogue, entity, input.clone(), Mode::Insert, None, &mut facts)
        .and_then(|object| {
            check::validate(catalogue, entity, &object, Mode::Insert, &input, None)?;
            Ok(object)
        });
    let checked = checked.map_err(Fault::from).and_then(|mut object| {
        check::transform(entity, &mut object, &input, &mut facts)?;
        Ok(object)
    });
    match checked {
        Ok(object) => Ok(Arc::new(Row::pack(entity, catalogue, object, 1))),
        Err(fault) => Err(fault.message),
    }
}

/// The tables with one more row; the first makes empty tables.
///
/// # Errors
/// Kong's words for what is wrong with it.
pub fn with_row(
    catalogue: &Catalogue,
    tables: Option<Tables>,
    entity: &str,
    input: &Json,
) -> Result<Tables, String> {
    let mut tables = tables.unwrap_or_else(|| Tables::new(catalogue));
    let row = row(catalogue, entity, input)?;
    tables.put(&row).map_err(|taken| format!("{taken:?}"))?;
    Ok(tables)
}
