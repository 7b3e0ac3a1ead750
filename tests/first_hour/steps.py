"""What a new user does in the first hour, and what must then be true: the table that test_first_hour.py runs.

A step is a line for bash, run in a folder of its own that holds samples/ (those of docs/) and what is in INPUTS. Only
`pip install smolcli` was done, the home is empty, and there is no network. `out` and `err` are the whole of standard
output and standard error; `...` in them stands for anything, also over several lines, and so for what depends on the
weights of nano. The exit code is that of the last command of a pipeline that fails.
"""

from __future__ import annotations

from dataclasses import dataclass

# Files beside samples/, each with the Python that makes its bytes; `scene` are those of samples/scene.png.
INPUTS = {
    "cut.png": "scene[: len(scene) // 2]",
    "empty.png": "b''",
    "text.png": "b'no picture at all'",
    "really-a-png.jpg": "scene",
    "my holiday \u00fc.png": "scene",
    "photo.ppm": "b'P6 96 64 255 ' + bytes(i * i % 251 for i in range(96 * 64 * 3))",
    "phone.heic": "bytes([0, 0, 0, 24]) + b'ftypheic' + bytes(4) + b'mif1heic'",
}

NANO = "smolcli: using nano, which reads print and names drawn things; it knows nothing of photographs: ...\n"
SCENE = "...red circle...blue square...\n"


@dataclass(frozen=True)
class Step:
    """One thing a user does. `only` is a file without which the system does not have it."""

    does: str
    command: str
    out: str = ""
    err: str = ""
    code: int = 0
    only: str = ""


# fmt: off
LOOK_AROUND = (
    Step("gives no command", "smolcli", code=2,
         err="Usage: smolcli COMMAND [OPTIONS]\n...\n  caption ...\n  doctor ..."),
    Step("asks for the version", "smolcli --version",
         out="smolcli 0...\n"),
    Step("runs it as a module", "python -m smolcli -V",
         out="smolcli 0...\n"),
    Step("asks for help", "smolcli --help",
         out="Usage: smolcli COMMAND [OPTIONS]\n...\n  caption ...\n  doctor ..."),
    Step("asks for help with a command", "smolcli ask -h",
         out="Usage: smolcli ask [OPTIONS] QUESTION INPUT...\n...Examples:\n  smolcli ask ...--help-all\n"),
    Step("reads only the top of it", "smolcli help caption | head -1",
         out="Usage: smolcli caption [OPTIONS] INPUT...\n"),
    Step("looks up the exit codes", "smolcli help exit-codes",
         out="...\n  2    The command line is wrong; ...\n  130  Interrupted: ..."),
    Step("mistypes a command", "smolcli capton samples/scene.png", code=2,
         err="smolcli: No such command capton; did you mean caption?\n"),
    Step("mistypes an option", "smolcli caption --stlye tags samples/scene.png", code=2,
         err="smolcli: No such option --stlye; did you mean --style?\n"),
    Step("gives a number that is none", "smolcli caption -n many samples/scene.png", code=2,
         err="smolcli: --max-tokens: many is not a whole number of 1 or more; see smolcli caption --help\n"),
    Step("completes a command", "_SMOLCLI_COMPLETE=complete_bash COMP_WORDS='smolcli vid' COMP_CWORD=1 smolcli",
         out="video-summarize\n"),
    Step("installs completion", "smolcli --install-completion && ls ~/.bash_completions",
         out="bash completion installed in ...\nCompletion will take effect ...\nsmolcli.sh\n"),
    Step("asks what is missing", "smolcli doctor",
         out="smolcli works here; ...  pip install 'smolcli[llamacpp]'\n...  pip install 'smolcli[video]'\n..."),
    Step("prepares a report of a fault, which names no home", "smolcli doctor --report | grep -c \"$HOME\"", code=1,
         out="0\n"),
)

ONE_PICTURE = (
    Step("describes a picture", "smolcli caption samples/scene.png",
         out=SCENE, err=NANO),
    Step("wants no notices", "smolcli caption -q samples/scene.png",
         out=SCENE),
    Step("asks two questions", "smolcli ask -q 'How many circles?' -Q 'What colour is it?' samples/circles.png",
         out="3\n...\n"),
    Step("reads a sign", "smolcli ocr samples/sign.png",
         out="EXIT 27\n", err=NANO),
    Step("reads a page that is blank", "smolcli ocr -q samples/blank.png",
         out="\n"),
    Step("describes a photograph, which nano does not know", "smolcli caption photo.ppm",
         out="...\n", err=NANO),
    Step("pipes a picture in", "cat samples/scene.png | smolcli caption -q -",
         out=SCENE),
    Step("gives no picture", "smolcli caption", code=2,
         err="smolcli: no input was given; smolcli caption picture.png, a directory, or - for standard input\n"),
    Step("forgets the question", "smolcli ask samples/scene.png", code=2,
         err="smolcli: samples/scene.png is a file, where the question should be; smolcli ask ... samples/scene.png\n"),
    Step("mistypes a file", "smolcli caption -q samples/scent.png", code=6,
         err="smolcli: samples/scent.png: no such file; check the path\n"),
    Step("gives a picture with another suffix", "smolcli caption -q really-a-png.jpg",
         out=SCENE),
    Step("gives text that is called a picture", "smolcli caption -q text.png", code=6,
         err="smolcli: text.png: is not a picture that can be read; convert it to PNG or JPEG\n"),
    Step("gives a picture that is cut short", "smolcli caption -q cut.png", code=6,
         err="smolcli: cut.png: is damaged or cut short (...); get a whole copy\n"),
    Step("gives an empty file", "smolcli caption -q empty.png", code=6,
         err="smolcli: empty.png: is empty; give a picture\n"),
    Step("gives a video to caption", "smolcli caption -q samples/film.mp4", code=6,
         err="smolcli: samples/film.mp4: is a video; smolcli video-summarize says what happens in it\n"),
    Step("gives a URL", "smolcli caption -q http://example.com/cat.jpg", code=6,
         err="smolcli: http://example.com/cat.jpg: cannot be reached (...); check the address and the network\n"),
)

MANY_PICTURES = (
    Step("describes a folder", "smolcli caption samples",
         out="samples/blank.png: ...\nsamples/scene.png: ...\nsamples/three.png: ...\n",
         err=f"{NANO}smolcli: passed by ... files that are no pictures\nsmolcli: ... new, 0 failed, ...\n"),
    Step("quotes a pattern", "smolcli caption -q '*.png'", code=5,
         out=f"my holiday \u00fc.png: {SCENE}",
         err="...cut.png: is damaged ...empty.png: is empty...text.png: is not a picture ...\n"),
    Step("has a pattern that nothing matches", "smolcli caption -q '*.gif'", code=4,
         err="smolcli: *.gif: no file matches; check the pattern\n"),
    Step("gives an empty folder", "mkdir new; smolcli caption -q new", code=4,
         err="smolcli: new: no picture was found in it; name picture files or a directory that has some\n"),
    Step("finds files", "find samples -name 's[ci]*.png' -print0 | smolcli caption -q --files-from - -0 | sort",
         out="samples/scene.png: ...\nsamples/sign.png: ...\n"),
    Step("has one bad file among good ones", "smolcli caption -q cut.png samples/scene.png", code=5,
         out=f"samples/scene.png: {SCENE}", err="smolcli: cut.png: is damaged ...\n"),
    Step("looks before a long run", "smolcli caption -q --dry-run samples/scene.png samples/sign.png",
         out="samples/scene.png: 256 x 256 pixels in ...\nsamples/sign.png: ...\n2 of 2 pictures to answer; ...\n"),
    Step("wants JSON", "smolcli caption -q -f json samples/scene.png | python -m json.tool",
         out="{\n    \"path\": \"samples/scene.png\",\n...\n    \"model\": \"nano\",\n...\n    \"error\": null\n}\n"),
    Step("wants a table", "smolcli caption -q samples/scene.png -o t.csv --fields path,text && cat t.csv",
         out="path,text\nsamples/scene.png,...\n"),
    Step("wants Excel", "smolcli caption samples -o t.xlsx", code=2,
         err="smolcli: xlsx is not a format of smolcli; spreadsheets open -f csv --bom, as -o results.csv\n"),
    Step("wants a text beside each picture", "smolcli caption -q --sidecar .txt samples/scene.png && cat samples/*.txt",
         out=SCENE),
    Step("goes on where a run ended",
         "smolcli caption -q samples/scene.png -o r.jsonl\n"
         "smolcli caption samples/scene.png samples/sign.png -o r.jsonl --resume; wc -l r.jsonl",
         out="...2 r.jsonl\n", err=f"{NANO}smolcli: 1 new, 1 from before, 0 failed, ..., in r.jsonl; ...\n"),
    Step("presses Ctrl-C and goes on",
         "set -m; echo samples/sign.png > list; tail -f list | smolcli caption -q --files-from - -o r.jsonl &\n"
         "until test -s r.jsonl; do sleep 0.05; done; kill -INT %1; wait $!; echo $?\n"
         "smolcli caption -q samples/scene.png samples/sign.png -o r.jsonl --resume\n"
         "smolcli records r.jsonl -f csv --fields path",
         out="130\npath\nsamples/sign.png\nsamples/scene.png\n", err="..."),
    Step("has enough after one line", "smolcli caption -q samples | head -1",
         out="samples/blank.png: ...\n"),
    Step("filters results",
         "smolcli caption -q samples/scene.png samples/sign.png -o r.jsonl\n"
         "smolcli records r.jsonl --where \"text like '%EXIT%'\"",
         out="samples/sign.png: ...EXIT 27...\n"),
    Step("writes into a folder that is not there", "smolcli caption -q samples/scene.png -o out/r.jsonl", code=2,
         err="smolcli: out/r.jsonl: cannot be written (No such file or directory); choose another file with -o\n"),
    Step("names a picture after -o", "smolcli caption -q samples/scene.png -o samples/sign.png", code=2,
         err="smolcli: samples/sign.png: is a picture or a video, by its name; choose another file with -o\n"),
    Step("fills the disk", "smolcli caption -q samples/scene.png > /dev/full", code=1, only="/dev/full",
         err="smolcli: standard output: cannot be written (No space left on device); ...\n"),
)

MODELS = (
    Step("lists models", "smolcli models list | cut -f 1,2",
         out="name\tbackends\n...\n500m\t\n...\nnano\tnumpy\n"),
    Step("asks about a model", "smolcli models info 500m",
         out="500m: ...\n  GGUF pair ...\n  runs here   its files are not on this machine\n"),
    Step("asks where the built-in model is", "smolcli models path nano --for torch | sed 's/.*site-packages//'",
         out="/smolcli/nano/weights\n"),
    Step("wants a model that is not here", "smolcli caption -m 500m samples/scene.png", code=3,
         err="smolcli: 500m: not on this machine; smolcli models pull 500m\n"),
    Step("mistypes a model", "smolcli caption -m 500n samples/scene.png", code=3,
         err="smolcli: 500n: not a known name, Hugging Face id, directory or .gguf file; did you mean 500m?\n"),
    Step("pulls a model without a network", "smolcli models pull 256m", code=3,
         err="smolcli: ...: the hub cannot be reached (...); check the network and pull again: it goes on ...\n"),
    Step("measures the speed",
         "smolcli bench speed -m nano --repeat 1 --warmup 0 --image 128x128 --new-tokens 4 2> /dev/null",
         out="numpy, float32, ...\nimages/s ...\n...machine: smolcli 0...\n"),
)

NOT_INSTALLED = (
    Step("gives a video", "smolcli video-summarize -q samples/film.mp4", code=3,
         err="smolcli: reading videos needs PyAV; pip install 'smolcli[video]', or --decoder ffmpeg\n"),
    Step("gives a PDF", "smolcli ocr -q samples/leaflet.pdf", code=6,
         err="smolcli: samples/leaflet.pdf: is a PDF, and ... is not installed; pip install 'smolcli[pdf]'\n"),
    Step("gives a picture of a phone", "smolcli caption -q phone.heic", code=6,
         err="smolcli: phone.heic: is HEIC, and ... is not installed; pip install 'smolcli[formats]'\n"),
    Step("converts a model", "smolcli convert-to-gguf 256m", code=3,
         err="smolcli: convert needs ..., which is not installed; pip install 'smolcli[convert]'\n"),
    Step("measures the quality", "smolcli bench quality samples/labelled.jsonl", code=3,
         err="smolcli: bench quality needs ..., which is not installed; pip install 'smolcli[bench]'\n"),
    Step("wants PyTorch", "smolcli caption -b torch samples/scene.png", code=3,
         err="smolcli: torch needs the library torch, which is not installed; pip install 'smolcli[torch]'\n"),
)

SETTINGS = (
    Step("shows the settings", "smolcli config show",
         err="smolcli: every setting has its default; smolcli config show --all lists them\n"),
    Step("sets one", "smolcli config set caption.style tags && smolcli config show",
         out="key\tvalue\tsource\ncaption.style\ttags\tconfig.toml:2\n"),
    Step("mistypes one", "smolcli config set caption.stile tags", code=2,
         err="smolcli: the setting caption.stile is not known; did you mean caption.style?\n"),
)
# fmt: on

STEPS = (*LOOK_AROUND, *ONE_PICTURE, *MANY_PICTURES, *MODELS, *NOT_INSTALLED, *SETTINGS)
