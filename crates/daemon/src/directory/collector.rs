//! The script that collects what `import` and `drift` read: it changes nothing, and it writes every enumeration and every
//! name as text, which `ConvertTo-Json` alone does not.

use super::table::{ADDITIONS, Form, KINDS, Kind, Side};

/// Properties of cmdlets that add to other objects.
const ADDED: &[(&str, &[(&str, Form)])] = &[
    ("Get-CsMediaConfiguration", &[("Identity", Form::Text), ("EncryptionLevel", Form::Text)]),
    ("Get-CsDialPlan", &[("Identity", Form::Text), ("SimpleName", Form::Text)]),
    ("Get-CsOAuthConfiguration", &[("ExchangeAutodiscoverUrl", Form::Text)]),
    ("Get-CsUser", &[("SipAddress", Form::Text), ("HostedVoiceMail", Form::Flag)]),
];

/// The script of a side.
pub fn collector(side: Side) -> String {
    let (shell, file) = match side {
        Side::Exchange => ("the Exchange Management Shell", "umbra-exchange.json"),
        Side::Lync => ("the Lync Server (or Skype for Business Server) Management Shell", "umbra-lync.json"),
    };
    let word = if side == Side::Exchange { "exchange" } else { "lync" };
    let mut out = format!(
        "# Collects what Umbra compares with its configuration. Reads only, changes nothing. Run it in {shell}, then:\n\
         #   umbra import {word} {file}\n#   umbra drift {file} -c umbra.toml\n\
         $all = [ordered]@{{}}\n"
    );
    for kind in KINDS.iter().filter(|kind| kind.side == side) {
        let mut properties: Vec<(&str, Form)> =
            kind.fields.iter().map(|field| (field.property, field.form)).collect();
        if kind.table == "access_edge" {
            properties.push(("RoutingMethod", Form::Text));
        }
        out.push_str(&block(kind.cmdlet, kind.source.unwrap_or(kind.cmdlet), &properties));
    }
    for (cmdlet, _, _) in ADDITIONS.iter().filter(|(_, _, own)| *own == side) {
        let properties = ADDED.iter().find(|(name, _)| name == cmdlet).map_or(&[][..], |(_, list)| list);
        out.push_str(&block(cmdlet, cmdlet, properties));
    }
    out.push_str(&format!("$all | ConvertTo-Json -Depth 5 | Out-File -Encoding utf8 {file}\n"));
    out
}

fn block(cmdlet: &str, source: &str, properties: &[(&str, Form)]) -> String {
    let lines: Vec<String> =
        properties.iter().map(|(name, form)| format!("    {name} = {}", expression(name, *form))).collect();
    format!(
        "$all['{cmdlet}'] = @({source} | ForEach-Object {{ [pscustomobject][ordered]@{{\n{}\n}} }})\n",
        lines.join("\n")
    )
}

fn expression(name: &str, form: Form) -> String {
    match form {
        Form::Server => "\"$fqdn\"".to_owned(),
        Form::Flag => format!("[bool]$_.{name}"),
        Form::Texts | Form::Numbers | Form::Names | Form::Keys | Form::Eum | Form::First => {
            format!("@($_.{name} | Where-Object {{ $null -ne $_ }} | ForEach-Object {{ \"$_\" }})")
        }
        _ => format!("\"$($_.{name})\""),
    }
}

/// The kinds of a side.
pub(super) fn kinds_of(side: Side) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(move |kind| kind.side == side)
}
