"""
aiortc as the other side of `dcpipe pipe --raw`: echoes what comes, and ends when the channel closes.

  python3 raw-peer.py offering      prints its offer, reads the answer from stdin
  python3 raw-peer.py answering     reads the offer from stdin, prints its answer
"""

import asyncio
import json
import sys

from aiortc import RTCPeerConnection, RTCSessionDescription


async def read():
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return RTCSessionDescription(**json.loads(line))


def show(description):
    print(json.dumps({"type": description.type, "sdp": description.sdp}), flush=True)


async def main(role):
    pc = RTCPeerConnection()
    closed = asyncio.Event()

    def echo(channel):
        channel.on("message", channel.send)
        channel.on("close", closed.set)

    if role == "offering":
        echo(pc.createDataChannel("python"))
        await pc.setLocalDescription(await pc.createOffer())
        show(pc.localDescription)
        await pc.setRemoteDescription(await read())
    else:
        pc.on("datachannel", echo)
        await pc.setRemoteDescription(await read())
        await pc.setLocalDescription(await pc.createAnswer())
        show(pc.localDescription)
    await closed.wait()
    await pc.close()


asyncio.run(main(sys.argv[1]))
