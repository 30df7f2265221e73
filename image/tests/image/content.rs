//! What `[[tree]]`, `[[symlink]]` and `[[dir]]` put into an image.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use noonmark_image::artifact::{DISK, INITRD, MANIFEST};
use noonmark_image::build::{self, Outputs};
use noonmark_image::content::{self, Fetched};
use noonmark_image::cpio::{self, Entry, Kind, Tree};
use noonmark_image::inputs::Inputs;
use noonmark_image::spec::Spec;
use noonmark_image::{compress, manifest};
use tempfile::TempDir;

use crate::support::{kernel, program, spec, with_inputs};

/// A folder `www` with a page, a script, a link, a backup and an empty folder.
fn folder() -> TempDir {
    let base = tempfile::tempdir().expect("a folder");
    let www = base.path().join("www");
    for sub in ["html/old", "bin", "empty"] {
        fs::create_dir_all(www.join(sub)).expect("a folder");
    }
    for (name, mode) in [
        ("html/index.html", 0o640),
        ("html/old/a.bak", 0o644),
        ("bin/run", 0o700),
    ] {
        fs::write(www.join(name), name).expect("a file");
        fs::set_permissions(www.join(name), Permissions::from_mode(mode)).expect("its mode");
    }
    symlink("index.html", www.join("html/start")).expect("a link");
    base
}

fn load(text: &str, base: &Path) -> Result<Tree, String> {
    let content = content::load(&spec(text), base, &Fetched::new());
    content
        .map(|content| content.tree)
        .map_err(|error| error.to_string())
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.keys().map(String::as_str).collect()
}

const TREE: &str = "[[tree]]\npath = \"/srv\"\nsource = \"www\"\n";

fn build(spec: &Spec, base: &Path) -> Outputs {
    let content = content::load(spec, base, &Fetched::new())
        .expect("content")
        .tree;
    with_inputs(spec, &kernel(), &program(b"init"), |inputs| {
        let content = &content;
        build::build(&Inputs { content, ..inputs }).expect("an image")
    })
}

#[test]
fn a_tree_has_its_links_and_empty_folders_and_modes_that_no_umask_changes() {
    let base = folder();
    let text = format!("{TREE}uid = 33\ngid = 34\n");
    let outputs = build(&spec(&text), base.path());
    let packed = outputs.artifact(INITRD).expect("an initrd");
    let archive = compress::decompress(packed, 1 << 30).expect("a compressed archive");
    let tree = cpio::read(&archive).expect("an archive");
    let of = |kind, permissions| Entry {
        kind,
        permissions,
        uid: 33,
        gid: 34,
    };
    let file = |name: &str, mode| of(Kind::File(name.into()), mode);
    assert_eq!(tree["srv/html/index.html"], file("html/index.html", 0o644));
    assert_eq!(tree["srv/bin/run"], file("bin/run", 0o755));
    let link = of(Kind::Symlink("index.html".into()), 0o777);
    assert_eq!(tree["srv/html/start"], link);
    assert_eq!(tree["srv/empty"], of(Kind::Directory, 0o755));
    let text = String::from_utf8(outputs.artifact(MANIFEST).expect("one").to_vec()).expect("text");
    let manifest = manifest::Manifest::parse(&text).expect("a manifest");
    let listed = |name: &str| manifest.inputs.iter().any(|input| input.name == name);
    for name in ["/srv/bin/run", "/srv/html/start", "/srv/empty"] {
        assert!(listed(name), "{name}");
    }
}

#[test]
fn the_same_tree_elsewhere_and_written_in_another_order_gives_the_same_bits() {
    let (one, other) = (folder(), tempfile::tempdir().expect("a folder"));
    let www = other.path().join("www");
    for sub in ["empty", "bin", "html/old"] {
        fs::create_dir_all(www.join(sub)).expect("a folder");
        fs::set_permissions(www.join(sub), Permissions::from_mode(0o700)).expect("its mode");
    }
    symlink("index.html", www.join("html/start")).expect("a link");
    for (name, mode) in [
        ("bin/run", 0o755),
        ("html/old/a.bak", 0o600),
        ("html/index.html", 0o644),
    ] {
        fs::write(www.join(name), name).expect("a file");
        fs::set_permissions(www.join(name), Permissions::from_mode(mode)).expect("its mode");
    }
    let spec = spec(TREE);
    let (one, other) = (build(&spec, one.path()), build(&spec, other.path()));
    assert!(one.artifact(DISK).is_some());
    assert_eq!(one.artifacts, other.artifacts);
}

#[test]
fn patterns_take_a_folder_with_all_that_is_below_it_and_leave_out_what_they_name() {
    let base = folder();
    let tree = |keys: &str| load(&format!("{TREE}{keys}"), base.path()).expect("content");
    assert_eq!(
        paths(&tree("include = [\"html\"]\nexclude = [\"**/*.bak\"]\n")),
        [
            "srv",
            "srv/html",
            "srv/html/index.html",
            "srv/html/old",
            "srv/html/start"
        ]
    );
    assert_eq!(
        paths(&tree("include = [\"*/*.html\"]\n")),
        ["srv", "srv/html", "srv/html/index.html"]
    );
    assert_eq!(
        paths(&tree("exclude = [\"html\", \"empty\"]\n")),
        ["srv", "srv/bin", "srv/bin/run"]
    );
}

#[test]
fn what_is_named_by_itself_takes_precedence_over_a_tree() {
    let base = folder();
    let text = format!(
        "{TREE}[[symlink]]\npath = \"/srv/html/start\"\ntarget = \"/elsewhere\"\n\
         [[dir]]\npath = \"/srv/empty\"\nmode = 0o1777\nuid = 7\n\
         [[file]]\npath = \"/srv/bin/run\"\nsource = \"run\"\n"
    );
    let tree = load(&text, base.path()).expect("content");
    assert_eq!(tree["srv/html/start"], Entry::symlink("/elsewhere"));
    let empty = Entry {
        uid: 7,
        ..Entry::directory(0o1777)
    };
    assert_eq!(tree["srv/empty"], empty);
    assert!(!tree.contains_key("srv/bin/run"), "the [[file]] gives it");
}

#[test]
fn what_is_named_below_a_link_goes_to_where_that_leads() {
    let base = folder();
    let text = format!(
        "{TREE}[[symlink]]\npath = \"/w\"\ntarget = \"srv/html\"\n\
         [[dir]]\npath = \"/w/c\"\n[[file]]\npath = \"/w/index.html\"\nsource = \"x\"\n"
    );
    let tree = load(&text, base.path()).expect("content");
    assert!(tree.contains_key("srv/html/c"), "{:?}", paths(&tree));
    assert!(
        !tree.contains_key("srv/html/index.html"),
        "the [[file]] gives it"
    );
}

#[test]
fn content_that_could_not_be_in_an_image_is_named() {
    let base = folder();
    let root = base.path().join("root");
    for sub in ["run/x", "tmp", "dev"] {
        fs::create_dir_all(root.join(sub)).expect("a folder");
    }
    let sockets = base.path().join("sockets");
    fs::create_dir(&sockets).expect("a folder");
    let _socket = UnixListener::bind(sockets.join("s")).expect("a socket");
    let root = "[[tree]]\npath = \"/\"\nsource = \"root\"\n";
    let cases = [
        (
            "[[tree]]\npath = \"/a\"\nsource = \"none\"\n".to_owned(),
            "/none: No such file",
        ),
        (
            "[[tree]]\npath = \"/a\"\nsource = \"sockets\"\n".into(),
            "is a socket; leave it out",
        ),
        (root.into(), "can't be `/run/x`: PID 1 mounts over"),
        (
            format!("{TREE}include = [\"*.php\"]\n"),
            "is like `*.php` of `include`",
        ),
        (format!("{TREE}{TREE}"), "www and from [[tree]]"),
        (
            format!("{TREE}[[symlink]]\npath = \"/srv/html\"\ntarget = \"a\"\n"),
            "`/srv/html` of the image comes from [[tree]]",
        ),
        (
            format!("{TREE}[[dir]]\npath = \"/srv/html/index.html/c\"\n"),
            "`/srv/html/index.html/c` of the image ([[dir]]) lies below `/srv/html/index.html`, which \
             is no folder ([[tree]] ",
        ),
        (
            "[[symlink]]\npath = \"/a\"\ntarget = \"/run\"\n[[dir]]\npath = \"/a/c\"\n".into(),
            "`/run/c` of the image ([[dir]]) would be hidden by what PID 1 mounts on `/run`",
        ),
        (
            format!("{TREE}[[mount]]\nlabel = \"l\"\npath = \"/srv/html\"\ntype = \"ext4\"\n"),
            "would be hidden by the disk that is mounted on `/srv/html`",
        ),
    ];
    for (text, expected) in cases {
        let message = load(&text, base.path()).expect_err("no content");
        assert!(message.contains(expected), "{message:?} for {text:?}");
    }
    let whole = load(&format!("{root}exclude = [\"run/*\"]\n"), base.path());
    assert_eq!(
        whole,
        Ok(Tree::new()),
        "empty folders to mount on are no harm"
    );
}

#[test]
fn keys_that_say_nothing_useful_are_told_with_their_place() {
    let cases = [
        (
            "[[tree]]\npath = \"/a\"\nsource = \"a\"\nexclude = [\"[\"]\n",
            "4:12: `tree.exclude`",
        ),
        (
            "[[tree]]\npath = \"/a\"\nsource = \"a\"\ninclude = [\"/a\"]\n",
            "paths below the folder",
        ),
        (
            "[[tree]]\npath = \"/init\"\nsource = \"a\"\n",
            "2:8: `tree.path`: `/init`",
        ),
        (
            "[[symlink]]\npath = \"/a\"\ntarget = \"\"\n",
            "3:10: `symlink.target`",
        ),
        ("[[dir]]\npath = \"/tmp/a\"\n", "2:8: `dir.path`"),
        (
            "[[dir]]\npath = \"/a\"\n[[dir]]\npath = \"/a\"\n",
            "4:8: `dir.path`: `/a` is there twice",
        ),
    ];
    for (text, expected) in cases {
        let error = Spec::parse(text, Path::new("guest.toml")).expect_err("a wrong spec");
        assert!(error.to_string().contains(expected), "{error} for {text:?}");
    }
}
