//! Pool × dial plan: every pair that a hunt group makes, with the table of what fits and the present cell marked. The
//! rule is `b2bua::security::fits`; only the drawing is made here.

use b2bua::policy::{MediaBridge, Policy, PoolEncryption, VoipSecurity};
use b2bua::{codes, security};

use super::finding::{Finding, Group};

const LEVELS: [PoolEncryption; 3] = [
    PoolEncryption::RequireEncryption,
    PoolEncryption::SupportEncryption,
    PoolEncryption::DoNotSupportEncryption,
];
const PLANS: [VoipSecurity; 3] = [VoipSecurity::Unsecured, VoipSecurity::SipSecured, VoipSecurity::Secured];

/// One finding for each pool and plan that calls can meet in.
pub fn findings(policy: &Policy) -> Vec<Finding> {
    let pair = |group: &b2bua::policy::HuntGroup| {
        let (pool, plan) = (policy.pool_of(group.ip_gateway)?, policy.dial_plans.get(group.dial_plan)?);
        let (level, security) = (pool.encryption, plan.voip_security);
        let words =
            format!("pool {} is {level:?}, dial plan {} is {}", pool.name, plan.name, plan_word(security));
        let is_bridged = plan.media_bridge == MediaBridge::Transcrypt && security != VoipSecurity::Unsecured;
        let finding = match security::fits(level, security) {
            true => Finding::ok(Group::Security, codes::POOL_PLAN_MISMATCH, words),
            false if is_bridged => Finding::warn(Group::Security, codes::BRIDGE_IN_USE, words),
            false => Finding::fail(Group::Security, codes::POOL_PLAN_MISMATCH, words),
        };
        Some(finding.drawn(matrix(level, security)))
    };
    let found: Vec<Finding> = policy.hunt_groups.iter().filter_map(pair).collect();
    match found.is_empty() {
        true => vec![Finding::skip(
            Group::Security,
            codes::POOL_PLAN_MISMATCH,
            "no hunt group leads from a pool to a dial plan: there is no pair to compare",
        )],
        false => found,
    }
}

/// The table with one cell in brackets.
fn matrix(here: PoolEncryption, there: VoipSecurity) -> Vec<String> {
    let heading = PLANS.map(|plan| format!("{:^12}", plan_word(plan))).concat();
    let row = |level: PoolEncryption| {
        let cells = PLANS.map(|plan| {
            let word = if security::fits(level, plan) { "ok" } else { "x" };
            let cell = if level == here && plan == there { format!("[{word}]") } else { word.to_owned() };
            format!("{cell:^12}")
        });
        let mark = if level == here { "  <- you are here" } else { "" };
        format!("{:<23}{}{mark}", format!("{level:?}"), cells.concat()).trim_end().to_owned()
    };
    let mut lines = vec![format!("{:<23}{heading}", "pool \\ plan").trim_end().to_owned()];
    lines.extend(LEVELS.map(row));
    lines
}

/// As Exchange spells it.
fn plan_word(plan: VoipSecurity) -> &'static str {
    match plan {
        VoipSecurity::Unsecured => "Unsecured",
        VoipSecurity::SipSecured => "SIPSecured",
        VoipSecurity::Secured => "Secured",
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Mark;
    use super::super::testing;
    use super::*;

    #[test]
    fn a_pair_that_fits_is_good_and_one_that_does_not_is_drawn() {
        let good = findings(&testing::compiled("").policy);
        assert_eq!(good.iter().map(|f| f.mark).collect::<Vec<_>>(), [Mark::Ok]);
        let compiled =
            testing::edited(|t| t.replace("voip_security = \"Secured\"", "voip_security = \"SIPSecured\""));
        let bad = findings(&compiled.policy);
        assert_eq!((bad[0].mark, bad[0].code), (Mark::Fail, codes::POOL_PLAN_MISMATCH));
        assert!(bad[0].what.contains("RequireEncryption") && bad[0].what.contains("SIPSecured"));
        let drawn = bad[0].picture.join("\n");
        assert_eq!(drawn.matches("[x]").count(), 1, "{drawn}");
        assert!(bad[0].picture[1].contains("[x]") && bad[0].picture[1].contains("you are here"), "{drawn}");
    }

    #[test]
    fn a_bridge_is_a_warning_and_no_pool_is_no_verdict() {
        let bridged = testing::edited(|t| {
            t.replace(
                "voip_security = \"Secured\"",
                "voip_security = \"SIPSecured\"\nmedia_bridge = \"transcrypt\"",
            )
        });
        assert_eq!(findings(&bridged.policy)[0].mark, Mark::Warn);
        let without = testing::edited(|t| {
            t.replace("fqdn = \"pool01.contoso.test\"", "fqdn = \"pool02.contoso.test\"")
        });
        assert_eq!(findings(&without.policy)[0].mark, Mark::Skip);
    }

    #[test]
    fn the_table_says_what_the_rule_says() {
        for level in LEVELS {
            for plan in PLANS {
                let drawn = matrix(level, plan).join("\n");
                assert_eq!(drawn.contains("[ok]"), security::fits(level, plan), "{drawn}");
                assert_eq!(drawn.matches('[').count(), 1, "{drawn}");
            }
        }
    }
}
