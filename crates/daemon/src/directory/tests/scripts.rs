//! The scripts as a PowerShell grammar reads them, which is not ours: whole, of the cmdlets that they claim, and with what objects say as
//! data only.

use std::collections::BTreeSet;

use tree_sitter::{Node, Parser};

use super::*;

/// What the collecting scripts may call: nothing that changes anything, but the file they write.
const READS: [&str; 4] = ["ForEach-Object", "Where-Object", "ConvertTo-Json", "Out-File"];

/// Names of the commands of a script, in order.
fn commands(script: &str) -> Vec<String> {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).expect("grammar");
    let tree = parser.parse(script, None).expect("parsed");
    let mut found = Vec::new();
    visit(tree.root_node(), &mut |node| {
        assert!(!node.is_error() && !node.is_missing(), "{}: {script}", node.start_position());
        if node.kind() == "command_name" {
            found.push(script[node.byte_range()].to_owned());
        }
    });
    found
}

fn visit(node: Node<'_>, seen: &mut impl FnMut(Node<'_>)) {
    seen(node);
    for child in node.children(&mut node.walk()) {
        visit(child, seen);
    }
}

fn exported(documents: &[Value], side: Side) -> String {
    let (_, text) = imported(documents);
    export(side, &Folder::new().tree(&text))
}

#[test]
fn every_script_is_powershell_and_calls_what_it_says() {
    for side in [Side::Exchange, Side::Lync] {
        let made = commands(&exported(&[exchange(), lync()], side));
        assert!(made.len() >= 10, "{made:?}");
        for command in made {
            assert!(["New-", "Set-", "Enable-"].iter().any(|verb| command.starts_with(verb)), "{command}");
        }
        let collecting: BTreeSet<String> = commands(&collector(side)).into_iter().collect();
        assert!(collecting.len() >= 10, "{collecting:?}");
        for command in collecting {
            assert!(command.starts_with("Get-") || READS.contains(&command.as_str()), "{command}");
        }
    }
}

#[test]
fn what_objects_are_called_is_no_command_in_any_script() {
    let hostile = [
        "x'; Remove-UMDialPlan * #",
        "$(Remove-UMDialPlan *)",
        "`'; Remove-UMDialPlan *",
        "a\nRemove-UMDialPlan *\n'",
        "#>\r\nRemove-UMDialPlan *",
        "\"; Remove-UMDialPlan *; \"",
        "@'\nRemove-UMDialPlan *\n'@",
        "\u{202e}* nalPlaiDMU-evomeR",
        "--% & Remove-UMDialPlan *",
    ];
    let named = |name: &str| {
        let (mut exchange, mut lync) = (exchange(), lync());
        exchange["Get-UMAutoAttendant"][0]["Name"] = json!(name);
        exchange["Get-UMMailboxPolicy"][0]["Name"] = json!(name);
        exchange["Get-UMMailbox"][0]["UMMailboxPolicy"] = json!(name);
        lync["Get-CsHostingProvider"][0]["Identity"] = json!(name);
        [Side::Exchange, Side::Lync].map(|side| commands(&exported(&[exchange.clone(), lync.clone()], side)))
    };
    let harmless = named("harmless");
    for name in hostile {
        assert_eq!(named(name), harmless, "{name:?}");
    }
}
