//! `man/*.1` and `completions/` are rendered from the programs' own definitions; stale ones fail here.
//!
//! `UPDATE_DOCS=1 cargo test --test it docs` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use kpipe::cli::docs::{Block, ENVIRONMENT, EXIT_STATUS, Example, PAGES, Page, Section};

use crate::workdir::{Workdir, same};

#[test]
fn pages_and_completions_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut stale = Vec::new();
    for page in PAGES {
        for (name, text) in rendered(page) {
            let path = root.join(&name);
            if update {
                fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("a directory");
                fs::write(&path, text).expect("a file");
            } else if fs::read(&path).ok() != Some(text.into_bytes()) {
                stale.push(name);
            }
        }
    }
    assert!(stale.is_empty(), "stale: {}\ntry: UPDATE_DOCS=1 cargo test --test it docs", stale.join(", "));
}

#[test]
fn nothing_is_documented_that_is_not_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let known: Vec<String> = PAGES.iter().flat_map(|page| rendered(page)).map(|(name, _)| name).collect();
    for dir in ["man", "completions/bash", "completions/zsh", "completions/fish"] {
        for entry in fs::read_dir(root.join(dir)).into_iter().flatten() {
            let name = format!("{dir}/{}", entry.expect("it can be read").file_name().display());
            // Other sections are prose, kept by hand.
            let by_hand = dir == "man" && !name.ends_with(".1");
            assert!(by_hand || known.contains(&name), "{name} belongs to no program");
        }
    }
}

#[test]
fn the_definitions_hold() {
    for page in PAGES {
        page.command().debug_assert();
        assert!(page.examples.len() >= 3, "{}: --help opens with three examples", page.name);
        assert!(page.bare_command().get_about().is_some(), "{}: what is it?", page.name);
    }
}

/// The help of a subcommand opened without an example; each that it has must be one of its own, and can be parsed.
#[test]
fn subcommands_have_examples_too() {
    for page in PAGES {
        for sub in page.command().get_subcommands() {
            let call = format!("{} {}", page.name, sub.get_name());
            let help = sub.clone().render_long_help().to_string();
            assert!(help.starts_with("Examples:\n  # "), "{call} --help:\n{help}");
            let lines: Vec<&str> = help.lines().take_while(|line| !line.is_empty()).collect();
            let mut own = 0;
            for line in lines.iter().filter(|line| line.contains(&call) && !line.starts_with("  # ")) {
                let from = line.find(&call).expect("it is there");
                let words = line[from..].split_whitespace();
                let words = words.take_while(|word| !["|", "&&", "||", ">", "<", ">>"].contains(word));
                let words: Vec<&str> = words.map(|word| word.trim_matches('\'')).collect();
                page.command().try_get_matches_from(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
                own += 1;
            }
            assert!(own > 0, "{call} --help shows no call of it:\n{help}");
        }
    }
}

/// An option that a page speaks of is one of a program; what was renamed is found here.
#[test]
fn options_that_are_spoken_of_are_there() {
    let options = |command: &Command| -> Vec<String> {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        longs.map(|long| format!("--{long}")).collect()
    };
    let mut known = vec!["--help".to_owned(), "--version".to_owned()];
    for page in PAGES {
        let command = page.bare_command();
        known.extend(options(&command));
        command.get_subcommands().for_each(|sub| known.extend(options(sub)));
    }
    for page in PAGES {
        let mut texts: Vec<&str> = page.examples.iter().map(|example| example.command).collect();
        for block in page.sections.iter().flat_map(|section| section.blocks) {
            match block {
                Block::Text(text) | Block::Code(text) => texts.push(text),
                Block::Items(items) => items.iter().for_each(|(term, text)| texts.extend([term, text])),
            }
        }
        for text in texts {
            for (at, _) in text.match_indices("--") {
                let is_begin = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-');
                let name = |c: char| c == '-' || c.is_ascii_lowercase();
                let option = text[at..].split(|c| !name(c)).next().unwrap_or_default();
                assert!(
                    !is_begin || option == "--" || known.iter().any(|known| known == option),
                    "{}: there is no {option}: {text}",
                    page.name
                );
            }
        }
    }
}

#[test]
fn every_page_is_clean_to_man() {
    for page in PAGES {
        check_with_man(page.name, &man_page(page));
    }
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("man")).into_iter().flatten() {
        let path = entry.expect("it can be read").path();
        check_with_man(&path.display().to_string(), &fs::read_to_string(&path).expect("a page is text"));
    }
}

/// Every file of a program.
fn rendered(page: &Page) -> Vec<(String, String)> {
    let name = page.name;
    let mut files = vec![(format!("man/{name}.1"), man_page(page))];
    for (shell, file) in [
        (Shell::Bash, format!("completions/bash/{name}")),
        (Shell::Zsh, format!("completions/zsh/_{name}")),
        (Shell::Fish, format!("completions/fish/{name}.fish")),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut page.bare_command(), name, &mut script);
        files.push((file, String::from_utf8(script).expect("a script is text")));
    }
    files
}

/// One page per program; each subcommand is a section of it.
fn man_page(page: &Page) -> String {
    let mut command = page.bare_command().disable_help_subcommand(true);
    command.build();
    let source = format!("kpipe {}", env!("CARGO_PKG_VERSION"));
    // No date: the page is the same whenever it is rendered.
    let man =
        Man::new(command.clone()).title(page.name.to_uppercase()).source(source).manual("kpipe").date("");
    let mut out = render(|w| man.render_title(w));
    out += &render(|w| man.render_name_section(w));
    let subcommands: Vec<&Command> = command.get_subcommands().filter(|sub| !sub.is_hide_set()).collect();
    if subcommands.is_empty() {
        out += &several(&render(|w| man.render_synopsis_section(w)), &command);
    } else {
        out += ".SH SYNOPSIS\n";
        for sub in &subcommands {
            let synopsis = render(|w| Man::new((*sub).clone()).render_synopsis_section(w));
            out += &several(&synopsis.replace(".SH SYNOPSIS\n", ""), sub);
            out += ".br\n";
        }
    }
    out += &render(|w| man.render_description_section(w));
    if subcommands.is_empty() {
        out += &render(|w| man.render_options_section(w));
    } else {
        out += ".SH COMMANDS\n";
        for sub in subcommands {
            out += &subcommand(sub);
        }
    }
    if !page.examples.is_empty() {
        out += ".SH EXAMPLES\n";
        for Example { does, command } in page.examples {
            write!(out, ".PP\n{}:\n{}", text(does), code(command)).expect("a string");
        }
    }
    for section in page.sections {
        writeln!(out, ".SH \"{}\"", section.title).expect("a string");
        section.blocks.iter().for_each(|block| out += &rendered_block(block));
    }
    if !page.see_also.is_empty() {
        writeln!(out, ".SH \"SEE ALSO\"\n{}", references(page.see_also)).expect("a string");
    }
    tidy(&out)
}

fn render(part: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    part(&mut out).expect("memory can be written");
    // Every part opens with roff's own preamble about apostrophes; one at the head is enough.
    let text = String::from_utf8(out).expect("a page is text");
    text.replace(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n", "")
}

fn subcommand(sub: &Command) -> String {
    let man = Man::new(sub.clone());
    let name = sub.get_bin_name().unwrap_or_else(|| sub.get_name());
    let mut out = format!(".SS \"{}\"\n", text(name));
    out += &render(|w| man.render_description_section(w)).replace(".SH DESCRIPTION\n", "");
    let options = render(|w| man.render_options_section(w));
    // Headings within a subcommand would look like sections of the page.
    for line in options.lines() {
        match line.strip_prefix(".SH ") {
            Some("OPTIONS") => {}
            Some(heading) => writeln!(out, ".PP\n\\fI{}\\fR", heading.trim_matches('"')).expect("a string"),
            None => writeln!(out, "{line}").expect("a string"),
        }
    }
    out
}

fn rendered_block(block: &Block) -> String {
    match block {
        Block::Text(words) => format!(".PP\n{}\n", text(words)),
        Block::Code(lines) => code(lines),
        Block::Items(items) => {
            let mut out = String::new();
            for (term, meaning) in *items {
                writeln!(out, ".TP\n\\fB{}\\fR\n{}", text(term), text(meaning)).expect("a string");
            }
            out
        }
    }
}

/// `.BR kget (1),`
fn references(pages: &[&str]) -> String {
    let last = pages.len().saturating_sub(1);
    let lines = pages.iter().enumerate().map(|(i, page)| {
        let (name, section) = page.split_once('(').unwrap_or((page, ""));
        let section = if section.is_empty() { String::new() } else { format!(" ({section}") };
        format!(".BR {}{section}{}", text(name), if i == last { "" } else { "," })
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn code(lines: &str) -> String {
    format!(".PP\n.RS 4\n.EX\n{}\n.EE\n.RE\n", text(lines))
}

/// Text as roff must be given it: a backslash, a hyphen that is to be pasted, quotes, and a dot or an apostrophe that
/// begins a line would each mean something else.
fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len() + 16);
    for (i, line) in plain.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if line.starts_with(['.', '\'']) {
            out.push_str("\\&");
        }
        for c in line.chars() {
            match c {
                '\\' => out.push_str("\\e"),
                '-' => out.push_str("\\-"),
                '\'' => out.push_str("\\(aq"),
                '`' => out.push_str("\\(ga"),
                '^' => out.push_str("\\(ha"),
                '~' => out.push_str("\\(ti"),
                '"' => out.push_str("\\(dq"),
                c => out.push(c),
            }
        }
    }
    out
}

/// `FILE...` where there may be several: the renderer writes each argument as if it came once.
fn several(page: &str, command: &Command) -> String {
    let mut page = page.to_owned();
    for arg in command.get_positionals().filter(|arg| matches!(arg.get_action(), clap::ArgAction::Append)) {
        for name in arg.get_value_names().unwrap_or_default() {
            for (open, close) in [("[", "]"), ("<", ">")] {
                let once = format!("{open}\\fI{name}\\fR{close} \n");
                page = page.replace(&once, &format!("{open}\\fI{name}\\fR{close}...\n"));
            }
        }
    }
    page
}

/// No blanks at the end of a line, no empty lines: roff takes those for space to be set.
fn tidy(page: &str) -> String {
    let lines = page.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.fold(String::from(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n"), |page, line| page + line + "\n")
}

/// Lets man format it and fails at a warning. Where man is missing the page is taken as it is.
fn check_with_man(name: &str, page: &str) -> Option<String> {
    let wd = Workdir::new();
    wd.write("page.1", page);
    let here = wd.run("sh").args(["-c", "command -v man && command -v groff"]).done();
    if here.status != 0 {
        return None;
    }
    let script = "MANROFFOPT='' MANWIDTH=100 man --warnings=w -E UTF-8 -l ./page.1 | col -bx";
    let done = wd.sh(script).ok();
    same(name, "what man complains of", "", &done.stderr);
    Some(done.text().to_owned())
}

/// A program whose texts hold everything that roff could misread.
fn example_page() -> Page {
    fn arguments() -> Command {
        let stream = clap::Arg::new("stream").value_name("STREAM").required(true).help("The stream");
        let at =
            clap::Arg::new("at").long("at").value_name("HASH").help(".dot 'first\n'quote\nback\\slash --x");
        Command::new("kx")
            .about("Cut a stream - or don't")
            .long_about("Cut it.\n\n.TH is no request here, and 'neither is this.\n'Nor this.")
            .subcommand_required(true)
            .subcommand(Command::new("split").about("Split a shard").arg(stream).arg(at))
            .subcommand(Command::new("list").about("List them"))
    }
    Page {
        name: "kx",
        arguments,
        examples: &[
            Example {
                does: "Split at the middle",
                command: "kx split 'a b' --at=0\n.hidden \\n \"x\" ^ ~ `y`",
            },
            Example { does: "List", command: "kx list" },
            Example { does: "List again", command: "kx list | sort" },
            Example { does: "Not in --help", command: "kx list --no-more" },
        ],
        sections: &[
            Section { title: "FILES", blocks: &[Block::Text(".hidden is 'one'"), Block::Code("a\n\n b")] },
            EXIT_STATUS,
            ENVIRONMENT,
        ],
        see_also: &["kget(1)", "kstream(5)"],
    }
}

#[test]
fn a_page_says_what_was_written() {
    let page = man_page(&example_page());
    for part in [
        ".TH KX 1",
        ".SH SYNOPSIS",
        ".SS \"kx split\"",
        ".SH \"EXIT STATUS\"",
        ".BR kget (1),\n.BR kstream (5)\n",
    ] {
        assert!(page.contains(part), "{part} is missing:\n{page}");
    }
    assert_eq!(page, man_page(&example_page()), "the same whenever it is rendered");
    let Some(shown) = check_with_man("kx", &page) else { return };
    for part in [
        "kx split 'a b' --at=0\n",
        ".hidden \\n \"x\" ^ ~ `y`",
        ".hidden is 'one'",
        "'Nor this.",
        ".dot 'first 'quote back\\slash --x",
        "KPIPE_ROOT",
        "129, 130, 143",
    ] {
        assert!(shown.contains(part), "{part} is missing:\n{shown}\n{page}");
    }
}

#[test]
fn help_opens_with_what_it_is_and_three_examples() {
    let help = example_page().command().render_help().to_string();
    let opening =
        "Cut a stream - or don't\n\nExamples:\n  # Split at the middle\n  kx split 'a b' --at=0\n  .hidden";
    same("kx --help", "the opening", opening, &help[..opening.len()]);
    assert!(!help.contains("--no-more"));
    // Where kget begins to read is the first that it says.
    let help = kpipe::cli::get::PAGE.command().render_help().to_string();
    let first =
        "Read a stream: from trim-horizon, with -f from latest, with --consumer from its checkpoint\n";
    assert!(help.starts_with(first), "{help}");
}
