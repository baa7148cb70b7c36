//! Two network namespaces, and between them a network that is not to be relied on.

use std::process::Command;

use crate::{
    peers::{Peer, peer_file, python},
    sandbox::{Sandbox, ip},
};

pub(crate) const CLIENT: &str = "10.9.0.1";
pub(crate) const SERVER: &str = "10.9.0.2";

pub(crate) struct Network {
    /// What each end's IP layer sends to and receives from. Nothing is lost behind it, so a capture here
    /// has what this end saw.
    pub(crate) device: &'static str,
    _cable: Option<Peer>,
    pub(crate) sandbox: Sandbox,
}

impl Network {
    /// Joined by veth. Of 100 TCP packets that arrive `lost` are dropped, at the veth; a bridge hands the
    /// others to IP. `long`: packets pass as TCP hands them out; else they are cut to 1,500 bytes first.
    pub(crate) fn veth(lost: u32, long: bool) -> Network {
        let sandbox = Sandbox::new(2);
        let [here, there] = [0, 1].map(|index| sandbox.namespace(index));
        let link = |arguments: &[&str]| ip(&[&["-n", here, "link"], arguments].concat());
        link(&[
            "add", "veth", "type", "veth", "peer", "name", "veth", "netns", there,
        ]);
        for (namespace, mine, other, address) in [(here, 1, 2, CLIENT), (there, 2, 1, SERVER)] {
            let of = |rest: &str| {
                let words = rest.split(' ');
                ip(&["-n", namespace]
                    .into_iter()
                    .chain(words)
                    .collect::<Vec<_>>());
            };
            let inside = |rest: &str| {
                let words = ["netns", "exec", namespace].into_iter();
                ip(&words.chain(rest.split(' ')).collect::<Vec<_>>());
            };
            let neighbour = if address == CLIENT { SERVER } else { CLIENT };
            of(&format!(
                "link add bridge address 02:00:00:00:00:0{mine} type bridge forward_delay 0"
            ));
            of("link set veth master bridge");
            if !long {
                for device in ["veth", "bridge"] {
                    inside(&format!("ethtool -K {device} tso off gso off gro off"));
                }
            }
            of("link set veth up");
            of("link set bridge up");
            of(&format!("addr add {address}/24 dev bridge"));
            of(&format!(
                "neigh add {neighbour} lladdr 02:00:00:00:00:0{other} dev bridge nud permanent"
            ));
            inside("nft add table netdev loss");
            inside(
                "nft add chain netdev loss arriving { type filter hook ingress device veth priority 0 ; }",
            );
            inside(&format!(
                "nft add rule netdev loss arriving meta l4proto tcp numgen random mod 100 < {lost} drop"
            ));
        }
        Network {
            device: "bridge",
            _cable: None,
            sandbox,
        }
    }

    /// Joined by a cable of 2 ms that loses `lost` of 100 TCP packets, and delays `late` of 100 so that
    /// others overtake them.
    pub(crate) fn cable(lost: u32, late: u32) -> Network {
        let sandbox = Sandbox::new(2);
        let mut command = Command::new(python());
        command.arg(peer_file("wire.py")).arg("0.002");
        command.args([sandbox.namespace(0), sandbox.namespace(1)]);
        command.args([lost.to_string(), late.to_string(), "1".to_owned()]);
        let cable = Peer::spawn(&sandbox, &mut command);
        cable.await_line("ready");
        for (index, address) in [CLIENT, SERVER].into_iter().enumerate() {
            let namespace = sandbox.namespace(index);
            let address = format!("{address}/24");
            ip(&["-n", namespace, "addr", "add", &address, "dev", "wire"]);
            ip(&["-n", namespace, "link", "set", "wire", "up"]);
        }
        Network {
            device: "wire",
            _cable: Some(cable),
            sandbox,
        }
    }
}
