//! `docs/configuration.md` and mcpd.toml(5) are generated from the schema of the configuration.
//!
//! ```text
//! prose.rs         what both say besides the keys
//! markdown.rs      docs/configuration.md
//! manual_page.rs   docs/man/mcpd.toml.5
//! ```

#[path = "../../../tests/generated/file.rs"]
mod file;
#[path = "../../../tests/generated/roff.rs"]
mod roff;

mod manual_page;
mod markdown;
mod prose;

use mcpd_common::config::schema::tables;

#[test]
fn the_reference_of_the_configuration_is_up_to_date() {
    let page = markdown::render(&tables());
    for key in tables().iter().flat_map(|table| &table.keys) {
        assert!(page.contains(&format!("| `{}` |", key.name)), "{}", key.name);
    }
    file::assert_up_to_date("docs/configuration.md", &page);
}

#[test]
fn the_manual_page_of_the_configuration_is_up_to_date() {
    let page = manual_page::render(&tables());
    let sections =
        ["NAME", "SYNOPSIS", "DESCRIPTION", "TABLES", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"];
    assert_eq!(roff::sections(&page), sections);
    file::assert_up_to_date("docs/man/mcpd.toml.5", &page);
}
