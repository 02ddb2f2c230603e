//! Browsers and their drivers: installing them from Debian's archive, and telling tests where they are.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::process::{Program, on_path};
use crate::progress::step;
use crate::repo::Repo;
use crate::tools::{self, Tool};

/// A browser engine that the tests run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Browser {
    /// Chromium through chromedriver or its own debugging protocol.
    Chromium,
    /// Firefox through geckodriver.
    Firefox,
    /// WebKitGTK's `MiniBrowser` through `WebKitWebDriver`, on a virtual display.
    Webkit,
}

impl Browser {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Chromium, Self::Firefox, Self::Webkit];

    /// What command lines and reports call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
            Self::Webkit => "webkit",
        }
    }

    /// What must be there, each with the variable that names another file, the usual names, and Debian's package.
    fn needs(self) -> &'static [Need] {
        match self {
            Self::Chromium => &[
                Need { variable: "CHROME", names: &["chromium", "chromium-browser", "google-chrome"], package: "chromium" },
                Need { variable: "CHROMEDRIVER", names: &["chromedriver"], package: "chromium-driver" },
            ],
            Self::Firefox => &[Need { variable: "FIREFOX", names: &["firefox-esr", "firefox"], package: "firefox-esr" }],
            Self::Webkit => &[
                Need { variable: "SAFARIDRIVER", names: &["WebKitWebDriver"], package: "webkit2gtk-driver" },
                Need { variable: "XVFB_RUN", names: &["xvfb-run"], package: "xvfb" },
                // xvfb-run needs it and only recommends it.
                Need { variable: "XAUTH", names: &["xauth"], package: "xauth" },
            ],
        }
    }
}

/// A program that a browser test needs.
#[derive(Clone, Copy, Debug)]
struct Need {
    variable: &'static str,
    names: &'static [&'static str],
    package: &'static str,
}

impl Need {
    fn find(self) -> Option<PathBuf> {
        let named = env::var_os(self.variable).map(PathBuf::from).filter(|file| file.is_file());
        named.or_else(|| self.names.iter().find_map(|name| on_path(name)))
    }
}

/// Installs what these browsers need and is missing; without the right to do that, says what to type.
pub(crate) fn ensure(repo: &Repo, browsers: &[Browser]) -> anyhow::Result<()> {
    let needs = browsers.iter().flat_map(|browser| browser.needs());
    let packages: Vec<&str> = needs.filter(|need| need.find().is_none()).map(|need| need.package).collect();
    if !packages.is_empty() {
        install(repo, &packages)?;
    }
    if browsers.contains(&Browser::Firefox) {
        geckodriver(repo)?;
    }
    Ok(())
}

/// The environment in which tests find a browser and its driver; one runner accepts one driver at a time.
pub(crate) fn environment(repo: &Repo, browser: Browser) -> anyhow::Result<Vec<(&'static str, OsString)>> {
    let mut vars = Vec::new();
    for need in browser.needs() {
        let file = need.find().with_context(|| format!("`{}` is not on PATH", need.names.join("` or `")))?;
        vars.push((need.variable, file.into_os_string()));
    }
    match browser {
        Browser::Chromium => {}
        Browser::Firefox => vars.push(("GECKODRIVER", geckodriver(repo)?.into_os_string())),
        Browser::Webkit => {
            if is_root(repo) {
                // WebKit's sandbox cannot be set up by root; containers and CI run as root.
                vars.push(("WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS", "1".into()));
            }
            vars.push(("SYNCLINE_MINI_BROWSER", mini_browser()?.into_os_string()));
        }
    }
    Ok(vars)
}

/// Puts a program on a virtual display where the browser has no headless mode of its own.
pub(crate) fn on_display(repo: &Repo, browser: Browser, program: impl Into<OsString>) -> anyhow::Result<Program> {
    if browser != Browser::Webkit {
        return Ok(Program::new(repo, program.into()));
    }
    let xvfb = on_path("xvfb-run").context("`xvfb-run` is not on PATH")?;
    Ok(Program::new(repo, xvfb).arg("-a").arg(program.into()))
}

/// What names a driver to a test runner; it takes the first that is set, so that all others must be unset.
pub(crate) const DRIVER_VARIABLES: [&str; 4] = ["CHROMEDRIVER", "GECKODRIVER", "SAFARIDRIVER", "MSEDGEDRIVER"];

fn geckodriver(repo: &Repo) -> anyhow::Result<PathBuf> {
    match env::var_os("GECKODRIVER").map(PathBuf::from).filter(|file| file.is_file()) {
        Some(named) => Ok(named),
        None => tools::ensure(repo, Tool::Geckodriver),
    }
}

/// The browser that comes with `WebKitWebDriver` lies in a folder named after the machine's architecture.
fn mini_browser() -> anyhow::Result<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib").context("reading /usr/lib")?;
    let candidates = libraries.filter_map(Result::ok).map(|entry| entry.path().join("webkit2gtk-4.1/MiniBrowser"));
    let others = ["/usr/libexec/webkit2gtk-4.1/MiniBrowser", "/usr/lib/webkit2gtk-4.1/MiniBrowser"].map(PathBuf::from);
    candidates
        .chain(others)
        .find(|file| file.is_file())
        .context("WebKit's MiniBrowser is in none of its usual folders; install the package `webkit2gtk-driver`")
}

fn install(repo: &Repo, packages: &[&str]) -> anyhow::Result<()> {
    let command = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if on_path("apt-get").is_none() {
        bail!(
            "These tests need programs that this system's package manager must install; Debian's names for them are: {}. \
             Programs outside PATH can be named in the variables CHROME, CHROMEDRIVER, FIREFOX, GECKODRIVER and SAFARIDRIVER.",
            packages.join(", ")
        );
    }
    if !is_root(repo) {
        bail!(
            "These tests need Debian packages, and only root may install them. Run this, then repeat the command:\n  sudo {command}"
        );
    }
    step(&format!("Installing Debian packages as root: {command}"), || {
        let apt = |args: &[&str]| {
            Program::new(repo, "apt-get")
                .args(args)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .hint("If apt could not reach Debian's archive, connect to the network and run the command again.")
                .run()
        };
        apt(&["update", "-qq"])?;
        apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
    })
}

fn is_root(repo: &Repo) -> bool {
    cfg!(unix) && Program::new(repo, "id").arg("-u").capture().is_ok_and(|id| id.trim() == "0")
}
