//! `palmfarm plan`: what cards would hold, and the addresses that they will have.

mod prefixes;

use std::io::{self, Write};
use std::path::Path;

use super::args::{Plan, PlanFormat};
use super::env::{drop_privileges, host_inputs};
use super::session::Session;
use super::ui::{harmless, Ui};
use super::{from_farm, CliResult, Failure, Outcome};
use crate::base::locate::BaseError;
use crate::base::source::CacheDir;
use crate::edit::tree::Tree;
use crate::farm::problem::ProblemLine;
use crate::farm::LoadedFarm;
use crate::host::atomic_file::{AtomicFile, Durability, Readers};
use crate::host::browser::{self, Opened};
use crate::host::terminal;
use crate::pipeline::{BaseImageInfo, FarmInputs};
use crate::plan::names::{self, NamesError};
use crate::plan::{html, show, table, CardPlan};
use crate::text::shown_url;
pub(super) use prefixes::lan_prefixes;
use prefixes::Prefixes;

pub(super) fn run(args: &Plan, ui: Ui) -> CliResult {
    let format = format(args, ui)?;
    let prefixes = Prefixes::parse(&args.prefix)?;
    let cache = drop_privileges()?;
    let farm = from_farm::load(&args.farm, ui)?;
    let cards = match &args.card {
        Some(name) => vec![from_farm::card(&farm, Some(name))?],
        None => farm.farm.resolved_cards(),
    };
    let prefixes = prefixes.find(ui)?;
    if let Some(path) = &args.output {
        from_farm::protect_inputs(&args.farm, &farm, None, std::slice::from_ref(path))?;
    }
    let mut inputs = FarmInputs::read(farm, host_inputs()?)?;
    let plans = cards
        .into_iter()
        .map(|card| inputs.plan(card, &prefixes))
        .collect::<Result<Vec<_>, _>>()?;
    from_farm::judge(&mut inputs, &plans, ui)?;
    let making = Making {
        inputs: &inputs,
        cache: &cache,
        plans: &plans,
        ui,
    };
    let text = match format {
        PlanFormat::Zone => making.names(args, names::zone)?,
        PlanFormat::ZoneReverse => making.names(args, names::reverse_zone)?,
        PlanFormat::Hosts => making.names(args, names::hosts)?,
        PlanFormat::Json => format!("{}\n", show::json(&plans, &making.trees()?)),
        PlanFormat::Html => {
            let base = shown_url(&inputs.loaded.farm.base);
            html::page(&plans, &making.trees()?, &base, &warnings(&inputs.loaded))
        }
        PlanFormat::Text => making.text(args)?,
    };
    match &args.output {
        Some(path) => write(path, &text, args.open, ui),
        None => ui.output(text.as_bytes()),
    }
}

/// The format that was asked for; a name that ends in `.html` asks for a page.
fn format(args: &Plan, ui: Ui) -> Result<PlanFormat, Failure> {
    let is_page = |path: &Path| path.extension().is_some_and(|end| end == "html");
    let format = match args.format {
        _ if ui.json => PlanFormat::Json,
        Some(format) => format,
        None if args.output.as_deref().is_some_and(is_page) => PlanFormat::Html,
        None => PlanFormat::Text,
    };
    if args.open && format != PlanFormat::Html {
        return Err(
            Failure::usage("--open shows a page").hint("add --format html, or let the output end in .html")
        );
    }
    if args.files && format != PlanFormat::Text {
        return Err(Failure::usage("--files belongs to --format text")
            .hint("json and html have the files in any case, and lists of names have none"));
    }
    Ok(format)
}

/// What the formats are made from.
struct Making<'a> {
    inputs: &'a FarmInputs<'a>,
    cache: &'a CacheDir,
    plans: &'a [CardPlan],
    ui: Ui,
}

impl Making<'_> {
    /// The base, if it is here.
    fn base(&self) -> Result<BaseImageInfo, Failure> {
        let session = Session::start(self.ui);
        // Nobody expects a plan to download a gigabyte.
        let offline = true;
        session.open_base(&self.inputs.loaded, self.cache, offline)
    }

    fn render(&self, base: &BaseImageInfo) -> Result<Vec<Tree>, Failure> {
        let trees = self.plans.iter().map(|plan| self.inputs.render(plan, base));
        Ok(trees.collect::<Result<_, _>>()?)
    }

    fn trees(&self) -> Result<Vec<Tree>, Failure> {
        self.render(&self.base()?)
    }

    /// A list of names; what is not plain from it is said beside it.
    fn names(
        &self,
        args: &Plan,
        list: fn(&[CardPlan]) -> Result<String, NamesError>,
    ) -> Result<String, Failure> {
        let text = list(self.plans).map_err(|error| {
            let hint = match &error {
                NamesError::Nothing => Some(prefixes::proposal(args)),
                other => other.hint(),
            };
            Failure::with_hint(Outcome::Usage, error, |_| hint)
        })?;
        for said in names::qualified(self.plans) {
            self.ui.info_line(format_args!("note: {said}"));
        }
        Ok(text)
    }

    /// For reading: the table, and with `--files` the rest.
    fn text(&self, args: &Plan) -> Result<String, Failure> {
        let width = terminal::columns(&io::stdout()).filter(|_| args.output.is_none());
        let mut text = table::table(self.plans, width);
        match self.base() {
            Ok(base) => {
                let trees = self.render(&base)?;
                let files: usize = trees.iter().map(|tree| tree.iter().count()).sum();
                if args.files {
                    for (plan, tree) in self.plans.iter().zip(&trees) {
                        text.push_str(&format!("\n{}", show::files(plan, tree)));
                    }
                } else {
                    text.push_str(&format!("{files} files; --files shows them\n"));
                }
            }
            // Addresses do not depend on the base, which may take long to come.
            Err(failure) if !args.files && is_absent(&failure) => {
                let why = failure.error.map(|error| error.to_string()).unwrap_or_default();
                self.ui
                    .info_line(format_args!("note: the files are not planned: {why}"));
                if let Some(hint) = failure.hint {
                    self.ui.info_line(format_args!("hint: {hint}"));
                }
            }
            Err(failure) => return Err(failure),
        }
        let lacks_prefix = self.plans.iter().any(CardPlan::lacks_prefix);
        if lacks_prefix {
            self.ui
                .info_line(format_args!("hint: {}", prefixes::proposal(args)));
        }
        // Files may have any content.
        Ok(harmless(&text))
    }
}

/// Whether the only trouble is that the base was not downloaded yet.
fn is_absent(failure: &Failure) -> bool {
    let error = failure.error.as_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(BaseError::NotHere { .. } | BaseError::Remote { .. }))
}

/// Replace `path` in one step, and show it if that was asked for.
fn write(path: &Path, text: &str, open: bool, ui: Ui) -> CliResult {
    let failed = |error: std::io::Error| {
        let error = anyhow::Error::new(error).context(format!("writing {}", path.display()));
        Failure::new(Outcome::Failed, error)
    };
    let new = AtomicFile::create(path, Readers::All).map_err(failed)?;
    new.file().write_all(text.as_bytes()).map_err(failed)?;
    new.commit(Durability::Synced).map_err(failed)?;
    let opened = open.then(|| browser::open(path));
    let shown = path.display();
    ui.report(
        &serde_json::json!({"event": "written", "file": path}),
        format_args!("wrote {shown}"),
    );
    if let Some(Opened::Not(why)) = opened {
        ui.info_line(format_args!("{why}: open {shown} in yours"));
    }
    Ok(())
}

/// The warnings of `check`, one sentence each.
fn warnings(farm: &LoadedFarm) -> Vec<String> {
    let sentence = |line: ProblemLine<'_>| match line.hint {
        Some(hint) => format!("{}; {hint}", line.message),
        None => line.message.to_string(),
    };
    farm.text.lines(&farm.warnings).map(sentence).collect()
}
