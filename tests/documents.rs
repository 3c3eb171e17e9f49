//! Checks the documents against the code: everything public is documented, and links have a
//! target.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

/// The prefix of links to files of the repository on pages that are shown elsewhere (the site of
/// `docs/`, package registries).
const REPOSITORY: &str = "https://github.com/tidings/tidings/blob/main/";

/// Folders of the repository without documents of this project.
const FOREIGN: [&str; 5] = [
    "target",
    "node_modules",
    ".git",
    ".venv",
    "proptest-regressions",
];

/// Every Markdown file below `directory`, relative to the repository.
fn documents(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the entry can be read").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !FOREIGN.contains(&name.as_str()) {
            documents(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "md") {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let inside = path.strip_prefix(root).expect("within the repository");
            found.push(inside.to_string_lossy().into_owned());
        }
    }
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text between each `from` and the next `to`.
fn between<'t>(text: &'t str, from: &str, to: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(from)
        .skip(1)
        .filter_map(move |rest| rest.split(to).next())
}

/// The heading in the reference of the table that holds a key.
fn heading_of(path: &str) -> String {
    match path.split_once("[].") {
        Some(("namespace", _)) => "## Namespaces".to_owned(),
        Some(("dialect", _)) => "## Dialects".to_owned(),
        Some(("source", _)) => "## Event sources".to_owned(),
        Some(("webhook", _)) => "## Webhooks".to_owned(),
        Some(_) => "## Event types".to_owned(),
        None => match path.rsplit_once('.') {
            Some((table, _)) => format!("### `[{table}]`"),
            None => "## Keys".to_owned(),
        },
    }
}

/// `UPDATE_DOCS=1 cargo test --test documents` rewrites the rows.
#[test]
fn configuration_reference_shows_the_declared_keys() {
    const PAGE: &str = "docs/reference/configuration.md";
    let mut page = read(PAGE);
    let rows = tidings::config::Config::reference();
    assert!(rows.len() > 100, "{}", rows.len());
    let mut missing = Vec::new();
    for row in rows {
        let heading = heading_of(row.path);
        let start = page.find(&heading).unwrap_or_else(|| panic!("{heading}"));
        let end = page[start + 3..]
            .find("\n#")
            .map_or(page.len(), |at| start + 3 + at);
        let begins = format!("| `{}` |", row.name);
        let shown = page[start..end]
            .lines()
            .find(|line| line.starts_with(&begins));
        match shown.map(str::to_owned) {
            Some(shown) if shown == row.row => {}
            Some(shown) if std::env::var_os("UPDATE_DOCS").is_some() => {
                let section = page[start..end].replacen(&shown, &row.row, 1);
                page.replace_range(start..end, &section);
            }
            Some(_) | None => missing.push(row.row),
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        std::fs::write(path, &page).expect("the page can be written");
    }
    assert!(
        missing.is_empty(),
        "UPDATE_DOCS=1 cargo test --test documents; {PAGE} lacks {missing:#?}"
    );
}

#[test]
fn every_error_code_and_close_code_is_explained() {
    let (source, document) = (read("src/error.rs"), read("docs/reference/protocol.md"));
    let (errors, closes) = source
        .split_once("pub enum CloseCode")
        .expect("both catalogues");
    let errors: Vec<&str> = between(errors, "=> \"", "\",").collect();
    assert_eq!(errors.len(), 10, "{errors:?}");
    let closes: Vec<&str> = closes
        .lines()
        .filter_map(|line| line.trim().split_once(" = ")?.1.strip_suffix(','))
        .filter(|number| number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()))
        .collect();
    assert!(closes.len() >= 15, "{closes:?}");
    for row in errors.iter().map(|code| format!("| `{code}` |")) {
        assert!(document.contains(&row), "{row}");
    }
    for row in closes.iter().map(|code| format!("| {code} |")) {
        assert!(document.contains(&row), "{row}");
    }
}

#[test]
fn every_reserved_name_is_listed_and_explained() {
    let (source, document) = (
        read("src/event/event_type.rs"),
        read("docs/reference/protocol.md"),
    );
    let list = source
        .split_once("const RESERVED_EVENT_TYPES")
        .expect("the list")
        .1;
    let list = list.split_once("\n];").expect("its end").0;
    let names: Vec<&str> = between(list, "\"", "\"").step_by(2).collect();
    assert_eq!(names.len(), 25, "the list is closed: {names:?}");
    let reserved = document
        .split_once("### Reserved names")
        .expect("a section")
        .1;
    let (reserved, messages) = reserved.split_once("\n### ").expect("its end");
    for name in names {
        assert!(reserved.contains(&format!("`{name}`")), "{name}");
        let explained = messages.contains(&format!("`{name}`"))
            || messages.contains(&format!("\"{name}\""))
            || name == "received";
        assert!(explained, "{name}");
    }
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    documents(root, &mut all);
    assert!(all.len() > 25, "{all:?}");
    for document in &all {
        let text = read(document);
        let directory = root
            .join(document)
            .parent()
            .expect("a directory")
            .to_owned();
        for link in between(&text, "](", ")") {
            let inside = link.strip_prefix(REPOSITORY);
            if inside.is_none() && link.contains("://") {
                continue;
            }
            let (path, heading) = inside
                .unwrap_or(link)
                .split_once('#')
                .unwrap_or((inside.unwrap_or(link), ""));
            let target = match (inside, path) {
                (Some(_), path) => root.join(path),
                (None, "") => root.join(document),
                (None, path) => directory.join(path),
            };
            let leaves =
                inside.is_none() && document.starts_with("docs/") && path.starts_with("../");
            assert!(
                !leaves
                    || target
                        .canonicalize()
                        .is_ok_and(|to| to.starts_with(root.join("docs"))),
                "{document}: {link} leads out of the site: write {REPOSITORY}…"
            );
            assert!(target.exists(), "{document}: {link}");
            if !heading.is_empty() {
                let there = std::fs::read_to_string(&target).expect("a text");
                let found = there
                    .lines()
                    .any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{document}: {link}");
            }
        }
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_page_of_docs_is_in_the_table_of_contents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    documents(&root.join("docs"), &mut pages);
    let contents = read("docs/SUMMARY.md");
    for page in pages {
        let inside = page.strip_prefix("docs/").expect("a page of docs");
        assert!(
            inside == "SUMMARY.md" || contents.contains(&format!("({inside})")),
            "docs/SUMMARY.md lacks {inside}"
        );
    }
}

#[test]
fn readme_is_short_enough_for_a_newcomer() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 120, "{lines} lines");
}

/// The text between the lines of three backticks that name `language`.
fn code_blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    between(text, &format!("```{language}\n"), "```").collect()
}

/// The tutorial shows a part of the configuration file that it runs.
#[test]
fn tutorial_shows_the_configuration_of_its_application() {
    let page = read("docs/start/first-ten-minutes.md");
    let file = read("docs/start/first-app/tidings.toml");
    let shown = code_blocks(&page, "toml")[0];
    assert!(file.ends_with(shown), "{shown}");
}

/// The program's help, for the program itself and for each command.
fn help() -> String {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tidings"))
            .args(arguments)
            .arg("--help")
            .env("COLUMNS", "100")
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{arguments:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        // A document can't keep trailing spaces.
        text.lines()
            .fold(String::new(), |text, line| text + line.trim_end() + "\n")
    };
    let whole = run(&[]);
    let commands = between(&whole, "Commands:\n", "\n\n")
        .next()
        .expect("commands");
    let names = commands.lines().filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|line| !line.starts_with(' '));
    let names = names.filter_map(|line| line.split_whitespace().next());
    let mut page = format!("## tidings\n\n```text\n{whole}```\n");
    for name in names.filter(|name| *name != "help") {
        let text = run(&[name]);
        page.extend(["\n## tidings ", name, "\n\n```text\n", &text, "```\n"]);
    }
    page
}

/// `UPDATE_DOCS=1 cargo test --test documents` rewrites the page.
#[test]
fn command_line_reference_is_what_the_program_prints() {
    const PAGE: &str = "docs/reference/command-line.md";
    const HEAD: &str = "# Command line\n\nThis page is what `tidings --help` prints. Options under *Server* are for commands that talk to a running server; they are found, in this\norder, on the command line, in the environment, and in the context that `tidings context use` has chosen. With `--json`, results are one JSON\nobject a line on stdout, and an error is `{\"error\": {code, message, fields?, retry_after_ms?, advice?}}` on stderr.\nStatistics, connections, channels and events have the members that they have in the [HTTP API](http.md).\n\n";
    let wanted = format!("{HEAD}{}", help());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        std::fs::write(path, &wanted).expect("the page can be written");
    }
    assert_eq!(
        read(PAGE),
        wanted,
        "UPDATE_DOCS=1 cargo test --test documents"
    );
}
