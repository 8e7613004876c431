//! Objects into keys and values.

use super::Column;
use crate::table::json::Scanner;
use crate::table::rows::Context;
use crate::table::rows::fault::{Result, Step, quoted};

/// The entries of a map. Where a key is there twice, the last one counts.
pub(super) fn entries(
    start: usize,
    (keys, values): (&mut Column, &mut Column),
    json: &mut Scanner<'_>,
    context: &mut Context<'_>,
) -> Result<()> {
    let (before, mark) = (json.clone(), context.keys.mark());
    take_entries((keys, values), json, context, &[])?;
    let replaced = context.keys.replaced(mark);
    if !replaced.is_empty() {
        keys.truncate(start);
        values.truncate(start);
        *json = before;
        context.keys.back_to(mark);
        take_entries((keys, values), json, context, &replaced)?;
    }
    context.keys.back_to(mark);
    Ok(())
}

/// The entries of a map, but for those of these numbers.
fn take_entries(
    (keys, values): (&mut Column, &mut Column),
    json: &mut Scanner<'_>,
    context: &mut Context<'_>,
    without: &[usize],
) -> Result<()> {
    json.enter()?;
    let mut number = 0;
    while json.more(number == 0, b'}')? {
        let key = json.key(&mut context.scratch)?;
        if without.binary_search(&number).is_ok() {
            json.skip()?;
        } else {
            keys.text(key, || format!("the key {}", quoted(key)))?;
            context.keys.push(key);
            if let Err(fault) = values.value(json, context) {
                return Err(fault.within(Step::Field(context.keys.last().into())));
            }
        }
        number += 1;
    }
    Ok(())
}
