//! `docs/configuration.md`.

use mcpd_common::config::schema::{Form, Table};

use super::prose;

const HEAD: &str = "\
<!-- Generated from common/src/config/schema; to change it, edit that and common/tests/reference/prose.rs, then run
     MCPD_UPDATE_DOCS=1 cargo nextest run -E 'test(is_up_to_date)' -->

# Configuration

";

pub fn render(tables: &[Table]) -> String {
    let mut page = HEAD.to_owned();
    prose::INTRODUCTION.iter().for_each(|text| paragraph(&mut page, text));
    code(&mut page, "toml", prose::EXAMPLE);
    page.push_str("## Values\n\n| type | how it is written |\n|---|---|\n");
    prose::TYPES.iter().for_each(|(name, text)| row(&mut page, &[name, text]));
    page.push_str("\n**Placeholders.** ");
    paragraph(&mut page, prose::PLACEHOLDERS);
    for table in tables {
        render_table(&mut page, table, tables);
    }
    page.push_str("## Environment variables\n\nThey take precedence over the file.\n\n| variable | meaning |\n|---|---|\n");
    prose::ENVIRONMENT.iter().for_each(|(name, text)| row(&mut page, &[&format!("`{name}`"), text]));
    page.push_str("\n## In an editor\n\n");
    paragraph(&mut page, prose::EDITORS);
    code(&mut page, "sh", prose::SAVE_SCHEMA);
    code(&mut page, "toml", prose::USE_SCHEMA);
    format!("{}\n", page.trim_end())
}

fn render_table(page: &mut String, table: &Table, all: &[Table]) {
    let title =
        if table.form == Form::Top { "Top level".to_owned() } else { format!("`{}`", table.header()) };
    page.push_str(&format!("## {title}\n\n"));
    paragraph(page, table.meaning);
    if table.key == "defaults" {
        let workers = all.iter().find(|table| table.key == "workers").expect("a table of workers");
        let missing = workers.keys.iter().filter(|key| table.keys.iter().all(|own| own.name != key.name));
        let missing: Vec<_> = missing.map(|key| format!("`{}`", key.name)).collect();
        paragraph(
            page,
            &format!("It has the keys of `{}` except {}.", workers.header(), missing.join(" and ")),
        );
        return;
    }
    page.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    for key in &table.keys {
        let name = format!("`{}`", key.name);
        row(page, &[&name, &prose::shown_type(key), &prose::shown_default(&key.default), &key.description()]);
    }
    page.push('\n');
}

fn row(page: &mut String, cells: &[&str]) {
    assert!(cells.iter().all(|cell| !cell.contains('|')), "{cells:?}");
    page.push_str(&format!("| {} |\n", cells.join(" | ")));
}

fn paragraph(page: &mut String, text: &str) {
    page.push_str(&format!("{text}\n\n"));
}

fn code(page: &mut String, language: &str, text: &str) {
    page.push_str(&format!("```{language}\n{}\n```\n\n", text.trim_end()));
}
