//! mcpd.toml(5).

use mcpd_common::config::schema::{Form, Table};

use super::prose;
use super::roff::Page;

pub fn render(tables: &[Table]) -> String {
    let mut page = Page::new("mcpd.toml", 5);
    page.section("NAME");
    page.paragraph("mcpd.toml - configuration of mcpd");
    page.section("SYNOPSIS");
    page.paragraph("`~/.config/mcpd/config.toml`");
    page.section("DESCRIPTION");
    prose::INTRODUCTION.iter().for_each(|text| page.paragraph(text));
    page.subsection("Values");
    prose::TYPES.iter().for_each(|(name, text)| page.term(name, text));
    page.subsection("Placeholders");
    page.paragraph(prose::PLACEHOLDERS);
    page.subsection("Editors");
    page.paragraph(prose::EDITORS);
    page.code(&format!("{}\n{}", prose::SAVE_SCHEMA, prose::USE_SCHEMA));
    page.section("TABLES");
    for table in tables {
        let title = if table.form == Form::Top { "Top level".to_owned() } else { table.header() };
        page.subsection(&title);
        page.paragraph(table.meaning);
        if table.key == "defaults" {
            page.paragraph("It has the keys of `[workers.NAME]` except `repo` and `port`.");
            continue;
        }
        for key in &table.keys {
            let about = format!(
                "{} Type: {}. Default: {}.",
                key.description(),
                prose::shown_type(key),
                prose::shown_default(&key.default)
            );
            page.term(key.name, &about);
        }
    }
    page.section("ENVIRONMENT");
    page.paragraph("These variables take precedence over the file.");
    prose::ENVIRONMENT.iter().for_each(|(name, text)| page.term(name, text));
    page.section("FILES");
    page.term("~/.config/mcpd/config.toml", "Configuration of a user.");
    page.term("/etc/mcpd/config.toml", "Configuration of a service of the machine.");
    page.section("EXAMPLES");
    page.code(prose::EXAMPLE);
    page.section("SEE ALSO");
    page.paragraph("mcpd(8), mcpctl(1)");
    page.finish()
}
