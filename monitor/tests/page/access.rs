//! The page is readable on a phone and in the dark, and usable by keyboard alone.

use serde_json::json;

use crate::{browser::Browser, traffic::World};

/// Every text whose contrast with what is behind it is below what WCAG 2.2 asks for (1.4.3): 4.5, or 3
/// for large text.
const TOO_FAINT: &str = r"(() => {
    const numbers = (color) => color.match(/[\d.]+/g).map(Number);
    const luminance = (color) => {
        const [r, g, b] = numbers(color).slice(0, 3).map((value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const color = getComputedStyle(one).backgroundColor;
            const alpha = numbers(color)[3] ?? 1;
            if (alpha === 1) return color;
            if (alpha > 0) throw new Error('half transparent: ' + one.className);
        }
        throw new Error('nothing behind');
    };
    const texts = [...document.querySelectorAll('body *:not(svg *, script, noscript *)')].filter((element) =>
        element.checkVisibility() &&
        [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
    if (texts.length < 50) throw new Error('too few texts to be this page: ' + texts.length);
    return texts.flatMap((element) => {
        const style = getComputedStyle(element);
        const [a, b] = [luminance(style.color), luminance(ground(element))].sort((a, b) => b - a);
        const contrast = (a + 0.05) / (b + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        if (contrast >= (large ? 3 : 4.5)) return [];
        return [`${contrast.toFixed(2)}: ${element.innerText} (${style.color} on ${ground(element)})`];
    });
})()";

const OPEN_ALL: &str = "document.querySelectorAll('.toggle').forEach(toggle => toggle.click())";
const ALL_OPEN: &str = "[...document.querySelectorAll('.detail')].every(one => one.innerText.includes('What hangs here') && !one.innerText.includes('Asking'))";

#[test]
#[ignore = "needs root"]
fn text_is_readable_in_both_schemes_and_nothing_scrolls_sideways() {
    let world = World::busy();
    let mut browser = Browser::start();
    browser.open(world.daemon.listen, 1280, "light");
    browser.wait("document.querySelector('#hanging .age')");
    browser.value(OPEN_ALL);
    browser.wait(ALL_OPEN);
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        for width in [1280, 768, 390, 320] {
            browser.screen(width, scheme);
            let faint = browser.value(TOO_FAINT);
            assert_eq!(faint, json!([]), "{scheme}, {width} px");
            let beyond = browser.value("document.documentElement.scrollWidth - innerWidth");
            assert!(beyond.as_i64().unwrap() <= 0, "{width} px: {beyond}");
        }
        grounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(grounds[0], grounds[1], "dark is another one");
    let silent = "document.querySelectorAll('svg:not([aria-label], [aria-hidden=true])').length";
    assert_eq!(browser.value(silent), 0, "pictures without words");
    assert_ne!(
        browser.value("document.querySelectorAll('svg[role=img]').length"),
        0
    );
    browser.settle(world.daemon.listen);
}

#[test]
#[ignore = "needs root"]
fn keyboard_is_enough() {
    let world = World::busy();
    let mut browser = Browser::start();
    browser.open(world.daemon.listen, 1280, "light");
    browser.press("Tab");
    assert_eq!(browser.text(":focus"), "Skip to the servers");
    assert!(focus_is_visible(&mut browser));
    browser.press("Enter");
    browser.wait("document.activeElement.id === 'servers'");
    browser.press("Tab");
    assert_eq!(browser.text(":focus"), "Server");
    assert!(focus_is_visible(&mut browser));
    browser.press("Enter");
    assert_eq!(sorted(&mut browser), "ascending");
    let first = browser.text(".servers tbody .address");
    assert_eq!(first, "127.0.0.1:9001");
    browser.press(" ");
    assert_eq!(sorted(&mut browser), "descending");
    assert_eq!(browser.text(".servers tbody .address"), "127.0.0.1:9004");

    let columns = browser.value("document.querySelectorAll('.servers thead button').length");
    for _ in 0..columns.as_u64().unwrap() {
        browser.press("Tab");
    }
    let expanded = "document.activeElement.getAttribute('aria-expanded')";
    assert_eq!(browser.value(expanded), "false");
    assert!(focus_is_visible(&mut browser));
    browser.press(" ");
    assert_eq!(browser.value(expanded), "true");
    browser.wait("document.querySelector('.detail:not([hidden])')?.innerText.includes('How connections ended')");
    // The focus survives what comes with the next answers.
    browser.value("new Promise(done => setTimeout(done, 7000))");
    assert_eq!(browser.value(expanded), "true");
    browser.press("Enter");
    assert_eq!(browser.value(expanded), "false");
    browser.settle(world.daemon.listen);
}

fn sorted(browser: &mut Browser) -> String {
    let value = browser.value("document.querySelector('th.server').getAttribute('aria-sort')");
    value.as_str().unwrap().to_owned()
}

fn focus_is_visible(browser: &mut Browser) -> bool {
    let outline = browser.value(
        "(style => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2)(getComputedStyle(document.activeElement))",
    );
    outline == true
}
