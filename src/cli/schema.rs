//! `palmfarm schema`: the JSON Schema of farm.yaml.

use super::ui::Ui;
use super::CliResult;
use crate::farm::SCHEMA;

pub(super) fn run(ui: Ui) -> CliResult {
    ui.output(SCHEMA.as_bytes())
}
