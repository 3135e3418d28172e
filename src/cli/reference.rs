//! What the documents say about farm.yaml and about the commands, taken from the schema and from the declarations of the
//! command line, so that a new key or option is in them by itself. It writes no file.

use clap::{Arg, ArgAction, Command, CommandFactory};
use serde_json::{Map, Value};

use super::args::Palmfarm;
use crate::farm::SCHEMA;

/// One key of farm.yaml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it stands: `network.uplink`, `users[].name`, `containers.NAME.image`.
    pub path: String,
    /// One or two sentences.
    pub text: String,
    /// What it takes, in words.
    pub takes: String,
    /// What holds if it is left out.
    pub default: Option<String>,
    /// Whether what it stands in needs it.
    pub required: bool,
}

impl Key {
    /// The key at the top of the file that it belongs to.
    pub fn top(&self) -> &str {
        self.path.split(['.', '[']).next().unwrap_or_default()
    }
}

/// Every key of farm.yaml, those of each place by name.
pub fn keys() -> Vec<Key> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap_or_default();
    let mut found = Vec::new();
    Walk { schema: &schema }.below("", &schema, &mut found);
    found
}

/// The tool's command with everything below it, as it parses arguments.
pub fn tool() -> Command {
    let mut tool = Palmfarm::command().disable_help_subcommand(true);
    tool.build();
    tool
}

/// How `command` is called, with the names of all values: `palmfarm build [--card CARD] --output OUTPUT FARM`.
pub fn synopsis(command: &Command) -> String {
    let mut words = vec![command
        .get_bin_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned()];
    let own = || shown_arguments(command).filter(|arg| !arg.is_global_set());
    for arg in own().filter(|arg| !arg.is_positional()) {
        words.push(optional(arg, format!("{}{}", option(arg), value(arg, " "))));
    }
    for arg in own().filter(|arg| arg.is_positional()) {
        words.push(optional(arg, value(arg, "")));
    }
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        words.push("COMMAND".to_owned());
    }
    words.join(" ")
}

/// The reference of farm.yaml as Markdown.
pub fn farm_page() -> String {
    let mut out = String::from(
        "# farm.yaml\n\nEvery key, from the schema that `palmfarm schema` prints. `NAME` stands for a name that you choose, and \
         `[]` for each entry of a list. `palmfarm check` judges more than this page can say.\n",
    );
    let mut top = String::new();
    for key in keys() {
        if key.top() != top {
            key.top().clone_into(&mut top);
            out.push_str(&format!("\n## {top}\n\n"));
            if key.path == top {
                out.push_str(&format!("{}{}\n", cell_free(&key.text), facts(&key)));
                continue;
            }
        }
        out.push_str(&format!(
            "\n- `{}`: {}{}\n",
            key.path,
            cell_free(&key.text),
            facts(&key)
        ));
    }
    out
}

/// The reference of the commands as Markdown.
pub fn commands_page() -> String {
    let mut out = String::from(
        "# Commands\n\nEvery command and option, as `palmfarm help COMMAND` prints them. All commands also take `--json` (JSON \
         lines on standard output) and `--quiet` (print only errors).\n",
    );
    commands(&tool(), &mut |command| {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        out.push_str(&format!(
            "\n## {name}\n\n{about}.\n\n```text\n{}\n```\n",
            synopsis(command)
        ));
        let mut first = true;
        for arg in shown_arguments(command).filter(|arg| !arg.is_global_set()) {
            if std::mem::take(&mut first) {
                out.push('\n');
            }
            let name = if arg.is_positional() {
                value(arg, "")
            } else {
                option(arg) + &value(arg, " ")
            };
            out.push_str(&format!("- `{name}`: {}\n", help(arg)));
        }
    });
    out
}

/// Call `see` with every command below `command` that people see, each before those below it.
pub(super) fn commands(command: &Command, see: &mut dyn FnMut(&Command)) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        see(below);
        commands(below, see);
    }
}

/// What `--help` says about `arg`, with its values and its default.
fn help(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set() && arg.get_action().takes_values())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if !values.is_empty() {
        text.push_str(&format!("; one of {}", values.join(", ")));
    }
    let default: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    if !default.is_empty() && arg.get_action().takes_values() {
        text.push_str(&format!("; default `{}`", default.join(" ")));
    }
    text
}

fn shown_arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
}

fn option(arg: &Arg) -> String {
    match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => String::new(),
    }
}

/// The names of what `arg` takes, after `space`; nothing for a switch.
fn value(arg: &Arg, space: &str) -> String {
    if !arg.get_action().takes_values() {
        return String::new();
    }
    let names = match arg.get_value_names() {
        Some(names) => names
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
        None => arg.get_id().as_str().to_uppercase(),
    };
    let may_lack = !arg.is_positional() && arg.get_num_args().is_some_and(|count| count.min_values() == 0);
    if may_lack {
        return format!("{space}[{names}]");
    }
    let many = arg.is_positional() && arg.get_num_args().is_some_and(|count| count.max_values() > 1);
    format!("{space}{names}{}", if many { "..." } else { "" })
}

fn optional(arg: &Arg, text: String) -> String {
    let again = matches!(arg.get_action(), ArgAction::Append) && !arg.is_positional();
    let text = if arg.is_required_set() {
        text
    } else {
        format!("[{text}]")
    };
    if again {
        text + "..."
    } else {
        text
    }
}

/// A sentence or two after the text of a key.
fn facts(key: &Key) -> String {
    let mut out = format!(" It takes {}.", key.takes);
    if let Some(default) = &key.default {
        out.push_str(&format!(" Default: `{default}`."));
    }
    if key.required {
        out.push_str(" Required.");
    }
    out
}

/// Angle brackets would be HTML.
fn cell_free(text: &str) -> String {
    text.replace('<', "\\<")
}

/// The way through the schema.
struct Walk<'a> {
    schema: &'a Value,
}

impl<'a> Walk<'a> {
    /// Add the keys below `node`, which stands at `path`.
    fn below(&self, path: &str, node: &'a Value, found: &mut Vec<Key>) {
        let node = self.resolved(node);
        let required: Vec<&str> = list(&node["required"]).filter_map(Value::as_str).collect();
        for (name, below) in members(&node["properties"]) {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            found.push(self.key(&path, below, required.contains(&name.as_str())));
            self.below(&path, below, found);
        }
        for alternative in list(&node["anyOf"]) {
            self.below(path, alternative, found);
        }
        if node["additionalProperties"].is_object() {
            self.below(&format!("{path}.NAME"), &node["additionalProperties"], found);
        }
        if node["items"].is_object() {
            self.below(&format!("{path}[]"), &node["items"], found);
        }
    }

    fn key(&self, path: &str, node: &'a Value, required: bool) -> Key {
        let meant = self.resolved(node);
        let of = |name: &str| {
            Some(&node[name])
                .filter(|value| !value.is_null())
                .or(Some(&meant[name]))
        };
        let text = of("description").and_then(Value::as_str).unwrap_or_default();
        Key {
            path: path.to_owned(),
            text: text.to_owned(),
            takes: self.takes(node),
            default: of("default").filter(|value| !value.is_null()).map(word),
            required,
        }
    }

    /// What `node` takes, as a phrase.
    fn takes(&self, node: &'a Value) -> String {
        if !node["anyOf"].is_null() {
            let each: Vec<String> = list(&node["anyOf"]).map(|one| self.takes(one)).collect();
            return each.join(", or ");
        }
        let quoted = |value: &Value| format!("`{}`", word(value));
        if !node["const"].is_null() {
            return quoted(&node["const"]);
        }
        if !node["enum"].is_null() {
            return list(&node["enum"]).map(quoted).collect::<Vec<_>>().join(" or ");
        }
        let meant = self.resolved(node);
        if !std::ptr::eq(meant, node) {
            // A definition of one value says in its first words what that is.
            let says = meant["description"].as_str().unwrap_or_default();
            return match says.split(['.', ';', ':']).next() {
                Some(says) if !says.is_empty() && !is(meant, "object") => lowered(says),
                _ => self.takes(meant),
            };
        }
        let examples: Vec<String> = list(&node["examples"]).map(quoted).collect();
        let such = if examples.is_empty() {
            String::new()
        } else {
            format!(" such as {}", examples.join(", "))
        };
        let (least, most) = (&node["minimum"], &node["maximum"]);
        if is(node, "array") {
            let items = &node["items"];
            return if is(self.resolved(items), "object") {
                "a list, each entry with the keys below".to_owned()
            } else {
                format!("a list; each entry is {}", self.takes(items))
            };
        }
        if is(node, "object") {
            let more = &node["additionalProperties"];
            return match (more.is_object(), is(self.resolved(more), "object")) {
                (true, true) => "names, each with the keys below".to_owned(),
                (true, false) => format!("names, each with {}", self.takes(more)),
                (false, _) => "the keys below".to_owned(),
            };
        }
        if is(node, "string") {
            return format!("text{such}");
        }
        if is(node, "integer") {
            return match (least.as_i64(), most.as_i64()) {
                (Some(least), Some(most)) => format!("a number from {least} to {most}"),
                _ => "a number".to_owned(),
            };
        }
        if is(node, "boolean") {
            return "`true` or `false`".to_owned();
        }
        "a value".to_owned()
    }

    /// `node`, or the definition that it refers to.
    fn resolved(&self, node: &'a Value) -> &'a Value {
        let name = node["$ref"]
            .as_str()
            .and_then(|link| link.strip_prefix("#/definitions/"));
        name.map_or(node, |name| self.resolved(&self.schema["definitions"][name]))
    }
}

/// Whether `node` takes values of the type `name`.
fn is(node: &Value, name: &str) -> bool {
    node["type"] == name || list(&node["type"]).any(|one| one == name)
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let mut members: Vec<_> = value.as_object().into_iter().flat_map(Map::iter).collect();
    // serde_json keeps another order if some crate asks for it.
    members.sort_by_key(|(name, _)| *name);
    members.into_iter()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value as it stands in YAML.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// With a small first letter, unless the word is an abbreviation.
fn lowered(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Key {
        keys().into_iter().find(|key| key.path == path).unwrap()
    }

    #[test]
    fn a_key_is_described_by_the_schema_alone() {
        let uplink = key("network.uplink");
        assert_eq!(uplink.takes, "the name of a network interface");
        assert_eq!(uplink.default.as_deref(), Some("eth0"));
        assert!(!uplink.required);
        assert!(key("users[].name").required);
        assert!(key("containers.NAME.image").required);
        assert_eq!(key("ssh.password").takes, "`true` or `false`");
        assert_eq!(
            key("network.ipv4.address").takes,
            "an IPv4 address with its prefix length"
        );
        assert!(keys().iter().all(|key| !key.takes.is_empty()));
    }

    #[test]
    fn a_synopsis_names_every_value() {
        let tool = tool();
        let build = tool.find_subcommand("build").unwrap();
        let line = synopsis(build);
        assert!(line.starts_with("palmfarm build ["), "{line}");
        assert!(line.contains(" [--card CARD] "), "{line}");
        assert!(line.contains(" --output OUTPUT "), "{line}");
        let plan = synopsis(tool.find_subcommand("plan").unwrap());
        assert!(plan.contains("[--prefix PREFIX/64|auto]..."), "{plan}");
    }
}
