"""The names of the things that nano knows from icons, and the icon names that count as each.

An entry of `_TABLE`, up to ";", is a name, "*" before it if it is among the most common, and after ":" further icon
names for it, from whatever set. Icon names are compared after `normalised`: "dog-face" and "dogface" are one name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TABLE = """
*cat: cat-face cat-side grinning-cat cat-fill black-cat; *dog: dog-face dog-side guide-dog service-dog poodle
dog-fill; *horse: horse-face; *cow: cow-face ox water-buffalo; *pig: pig-face pig-side boar; *sheep: ewe ram; goat;
*rabbit: rabbit-face bunny bunny-side rabbit-variant; *mouse: mouse-face rat rodent mouse-side; hamster: hamster-face
hampster; *bear: bear-face polar-bear teddy-bear; *panda: panda-face; *lion: lion-face; *tiger: tiger-face tiger-side;
*fox: fox-face; wolf: wolf-face; *monkey: monkey-face see-no-evil-monkey hear-no-evil-monkey speak-no-evil-monkey
monkey-see monkey-hear monkey-speak; *elephant: mammoth; *giraffe; *zebra; deer: moose; camel: two-hump-camel
bactrian-camel dromedary-camel; kangaroo; koala; hedgehog; squirrel: chipmunk; bat; rhinoceros: rhino; hippopotamus:
hippo; *bird: blue-bird; chick: baby-chick front-facing-baby-chick front-facing-chick hatching-chick; *chicken:
rooster hen; *duck; swan; *owl; eagle; dove: dove-of-peace; parrot; peacock; flamingo; *penguin; turkey; *frog:
frog-face; *turtle: tortoise; *snake; lizard; crocodile; dragon: dragon-face dragon-head dragon-side; dinosaur:
sauropod t-rex; *fish: fish-simple; *shark; *whale: spouting-whale spurting-whale; *dolphin; *octopus; squid; *crab;
lobster; shrimp: prawn; snail; *butterfly: monarch-butterfly; *bee: honeybee; ant; *spider; *ladybug: lady-beetle
lady-bug; scorpion; unicorn: unicorn-face;

*apple: red-apple green-apple; *banana; *orange: tangerine; *lemon; *pear; *peach; *cherry: cherries; *strawberry;
*bunch of grapes: fruit-grapes grapes; *watermelon; *pineapple; coconut; avocado; *tomato; *carrot; potato:
roasted-sweet-potato sweet-potato; eggplant: aubergine; *ear of corn: ear-of-corn ear-of-maize corn; cucumber; onion;
pepper: hot-pepper bell-pepper chili-pepper pepper-hot chili-mild chili-hot chili-medium chilli; *mushroom:
brown-mushroom; *loaf of bread: bread-slice bread; croissant; pretzel; pancake: pancakes; *cheese: cheese-wedge; *egg:
egg-fried cooking nest-with-eggs; drumstick: poultry-leg chicken-leg food-drumstick drumstick-bite meat-on-bone;
*burger: hamburger; *portion of fries: french-fries fries; *hot dog; *sandwich: stuffed-flatbread; *pizza:
slice-of-pizza pizza-slice; bowl of rice: cooked-rice curry-rice curry-and-rice rice bowl-rice; *ice cream:
soft-ice-cream ice-cream-cone icecream; *donut: doughnut; *cookie: cookie-bite; *cake: birthday-cake cake-variant
cake-slice shortcake; *cupcake: muffin; pie; chocolate bar: chocolate; candy; lollipop; *cup of coffee: hot-beverage
coffee mug-hot tea mug-saucer teacup-without-handle; teapot: kettle; *beer: beer-mug clinking-beer-mugs beer-stein
beer-mug-empty glass-mug mug-beer; *glass of wine: wine-glass wine glass-wine wine-glass-empty; cocktail:
cocktail-glass tropical-drink glass-cocktail martini martini-glass; *bottle: bottle-with-popping-cork champagne
wine-bottle bottle-wine;

*car: automobile oncoming-automobile sport-utility-vehicle recreational-vehicle car-side car-profile car-simple
car-hatchback car-sports; *taxi: oncoming-taxi; police car: oncoming-police-car police-car-oncoming; race car:
racing-car racecar; *bus: oncoming-bus trolleybus minibus bus-side; *truck: delivery-truck articulated-lorry
pickup-truck; *fire truck: fire-engine firetruck; *ambulance; *tractor; *bicycle: bike; *motorcycle: motorbike
motorcycle-off; scooter: motor-scooter kick-scooter moped; *train: locomotive metro high-speed-train bullet-train
high-speed-train-bullet-nose steam-locomotive railway-car train-front tram train-simple train-regional light-rail
tram-car; *airplane: small-airplane airplane-departure airplane-arrival plane plane-departure plane-arrival;
*helicopter; *rocket: rocket-launch; flying saucer: ufo; *ship: passenger-ship ferry cruise-ship; *sailboat:
sail-boat; anchor; *traffic light: vertical-traffic-light horizontal-traffic-light traffic-signal traffic-lights;
skateboard; pair of skis: ski ski-boot ski-and-ski-boot skis;

*sun: sun-with-face white-sun sun-rays white-sun-with-rays weather-sunny sun-fill brightness-high high-brightness;
*moon: crescent-moon full-moon first-quarter-moon last-quarter-moon waxing-crescent-moon waning-crescent-moon
new-moon-face full-moon-face first-quarter-moon-face last-quarter-moon-face waxing-gibbous-moon waning-gibbous-moon
full-moon-with-face last-quarter-moon-with-face first-quarter-moon-with-face moon-stars; *cloud: fog; rain cloud:
cloud-with-rain sun-behind-rain-cloud sun-rain-cloud raincloud cloud-rain weather-rainy weather-pouring
cloud-showers-heavy; *lightning bolt: high-voltage bolt lightning-bolt lightning-bolt-outline lightning; *snowflake:
snow-flake; *snowman: snowman-without-snow; *rainbow; *umbrella: umbrella-with-rain-drops closed-umbrella
umbrella-simple; *fire: flame; *drop of water: droplet drop black-droplet water-drop tint; tornado: cloud-tornado;
planet: ringed-planet saturn; *globe: globe-showing-americas globe-showing-asia-australia globe-showing-europe-africa
americas-globe asia-australia-globe europe-africa-globe earth earth-americas earth-asia earth-europe earth-africa;
*mountain: snow-capped-mountain mount-fuji snow-mountains mountains; volcano; beach: beach-with-umbrella
beach-umbrella umbrella-on-ground umbrella-beach;

*tree: deciduous-tree tree-outline tree-deciduous; fir tree: evergreen-tree evergreen pine-tree tree-evergreen;
*Christmas tree; *palm tree: tree-palm palmtree; *cactus; *sunflower; *rose; *tulip; *flower: blossom hibiscus
cherry-blossom white-flower; *leaf: fallen-leaf leaf-fluttering-in-wind leaf-fluttering falling-leaf; maple leaf;
clover: four-leaf-clover shamrock; *plant: potted-plant seedling potted-plant-outline sprout herb;

*house: house-with-garden home house-chimney house-simple home-variant derelict-house; *building: office-building
hotel department-store building-fill; *church; *castle: european-castle castle-turret; factory; hospital; school;
*tent: camping campground camp; fountain; bridge: bridge-at-night;

*hat: top-hat womans-hat billed-cap; *crown; *pair of glasses: eyeglasses dark-sunglasses sunglasses glasses; *shirt:
t-shirt tshirt; *pair of jeans: trousers pants jeans; *dress; coat: lab-coat; *shoe: running-shoe mans-shoe mens-shoe
shoe-sneaker sneaker; high-heeled shoe: heels high-heel shoe-heel; *boot: womans-boot hiking-boot; *sock: socks;
glove: gloves; scarf; tie: necktie black-tie; *backpack: school-backpack school-satchel; handbag: clutch-bag purse;
suitcase: luggage baggage-claim suitcase-rolling; shopping bag: shopping-bags bag-shopping; diamond ring: ring; gem:
gem-stone diamond-stone sketch-logo;

*bed; *chair: seat; couch: couch-and-lamp sofa; *door: door-open door-closed; window; bathtub: bath; *toilet; mirror;
lamp: red-paper-lantern izakaya-lantern diya-lamp lamp-outline; *candle: candle-flame; *light bulb: lightbulb bulb;
flashlight: electric-torch; broom; bucket; toothbrush; basket: shopping-basket; *trash can: wastebasket trash delete;
*spoon; *knife: kitchen-knife hocho dagger; fork and knife: fork-and-knife-with-plate fork-knife silverware-fork-knife
utensils tools-kitchen-2; bowl: bowl-with-spoon; *key: old-key key-variant; *lock: locked unlocked open-lock
lock-simple locked-with-key lock-and-key; *clock: alarm-clock mantelpiece-clock manltepiece-clock one-oclock
two-oclock three-oclock four-oclock five-oclock six-oclock seven-oclock eight-oclock nine-oclock ten-oclock
eleven-oclock twelve-oclock clock-1-oclock clock-2-oclock clock-3-oclock clock-4-oclock clock-6-oclock clock-12-oclock
three-thirty nine-thirty clock-outline; *watch: wristwatch; stopwatch: timer-clock; hourglass: hourglass-done
hourglass-not-done hourglass-flowing-sand hourglass-end hourglass-start; *calendar: tear-off-calendar spiral-calendar
spiral-calendar-pad; *gift: wrapped-gift present; *balloon; teddy bear; kite; puzzle piece: jigsaw puzzle; dice:
game-die game-dice dice-multiple; playing card: joker playing-card-black-joker cards-playing;

*hammer; *wrench; *screwdriver; saw: carpentry-saw hand-saw; axe; *pair of scissors: black-scissors scissors-cutting
content-cut scissors; ladder; *gear: cog; paintbrush: lower-left-paintbrush brush paint-brush; *pencil:
lower-left-pencil; *pen: lower-left-pen fountain-pen lower-left-fountain-pen pen-nib; ruler: straight-ruler
triangular-ruler; paper clip: paperclip linked-paperclips; pushpin: round-pushpin black-pushpin pin; *book:
closed-book green-book blue-book orange-book notebook notebook-with-decorative-cover notebook-decorative-cover
red-book; *open book: book-open book-open-variant; *newspaper: rolled-up-newspaper; folder: file-folder
open-file-folder black-folder open-folder; *sheet of paper: page-facing-up page-with-curl page document; *envelope:
e-mail incoming-envelope envelope-with-arrow back-of-envelope email love-letter mail; mailbox:
closed-mailbox-with-raised-flag closed-mailbox-with-lowered-flag open-mailbox-with-raised-flag
open-mailbox-with-lowered-flag closed-mailbox-lowered closed-mailbox-raised open-mailbox-lowered open-mailbox-raised
postbox; box: package cardboard-box; scroll; ticket: admission-tickets; microscope; telescope; syringe; pill: pills;
thermometer; bone; tooth; brain; magnet: magnet-straight; bomb; sword: crossed-swords; shield; pistol: water-pistol
gun; money bag: sack-dollar; banknote: dollar-banknote euro-banknote pound-banknote yen-banknote money-with-wings
banknote-dollar banknote-euro banknote-pound banknote-yen money-bill cash; coin; credit card; shopping cart:
cart-shopping cart;

*phone: mobile-phone smartphone cellphone mobile-phone-with-arrow device-mobile mobile; *telephone: telephone-receiver
black-telephone white-touchtone-telephone black-touchtone-telephone landline-phone phone; *computer: desktop-computer
old-personal-computer personal-computer laptop laptop-computer computer-laptop device-laptop desktop; *keyboard:
wired-keyboard; *computer mouse: one-button-mouse two-button-mouse three-button-mouse; *printer: printer-icon;
*television: tv television-classic; *radio; *camera: camera-with-flash; video camera: movie-camera
handheld-video-camera film-projector camcorder video; *pair of headphones: headphone headphones; *microphone:
studio-microphone studio-mic; loudspeaker: speaker-high-volume speaker-low-volume speaker-medium-volume muted-speaker
right-speaker right-speaker-3-sound-waves volume-high speaker speaker-one-sound-wave speaker-3-sound-waves
speaker-with-1-sound-wave; megaphone: bullhorn bullhorn-with-sound-waves; battery: battery-full; plug: electric-plug
power-plug; floppy disk: black-hard-shell-floppy soft-shell-floppy floppy; CD: optical-disk dvd optical-disc
computer-disk disc; game controller: video-game gamepad controller joystick game-controller gamepad-variant
device-gamepad; *robot: robot-face; antenna: satellite-antenna; *magnifying glass: magnifying-glass-tilted-left
magnifying-glass-tilted-right left-pointing-magnifying-glass right-pointing-magnifying-glass left-magnifying-glass
right-magnifying-glass magnify;

*soccer ball: soccer; *basketball: basketball-and-hoop; *football: american-football rugby-football football-american
ball-american-football; baseball: softball; *tennis ball: tennis tennis-racket; volleyball: ball-volleyball; bowling
ball: bowling; boxing glove; target: bullseye direct-hit; *trophy: trophy-award; medal: sports-medal 1st-place-medal
2nd-place-medal 3rd-place-medal military-medal;

*guitar: guitar-acoustic guitar-electric; violin; *drum: long-drum; *trumpet; saxophone; *piano: musical-keyboard
piano-keys; *bell: ringing-bell bellhop-bell; *musical note: musical-notes music-note multiple-musical-notes
music-ascend music; pair of masks: performing-arts drama-masks masks-theater theater-masks;

*smiling face: grinning-face grinning-face-with-smiling-eyes beaming-face-with-smiling-eyes slightly-smiling-face
smiling-face-with-smiling-eyes grinning-face-with-big-eyes grinning-squinting-face grin-wide grin-eyes grin-wide-eyes
small-smile smile-eyes white-smiling-face smile smiley emoticon-happy face-smile; *laughing face:
face-with-tears-of-joy rolling-on-the-floor-laughing grin-tears face-laugh; *winking face: winking smiley-wink
face-smile-wink; *sad face: frowning-face slightly-frowning-face disappointed-face worried-face disappointed frown
small-frown frown-mouth face-frown emoticon-sad smiley-sad mood-sad; *crying face: loudly-crying-face crying
loudly-crying mood-cry; *angry face: pouting-face enraged-face angry pout face-angry mood-angry; surprised face:
face-with-open-mouth hushed-face astonished-face astonished hushed open-mouth face-surprise; kissing face:
face-blowing-a-kiss kissing-face-with-closed-eyes kissing-face-with-smiling-eyes kissing kiss-closed-eyes kiss-eyes
face-kiss; *sleeping face: sleeping; neutral face: expressionless-face neutral expressionless face-meh face-meh-blank;
face with sunglasses: smiling-face-with-sunglasses; face with heart eyes: smiling-face-with-heart-eyes heart-eyes
face-grin-hearts; *face with its tongue out: face-with-tongue winking-face-with-tongue squinting-face-with-tongue
tongue-out tongue-out-wink face-grin-tongue tongue-out-wink-2 smile-tongue; thinking face; devil:
smiling-face-with-horns angry-face-with-horns devil-horns imp; clown: clown-face; alien; *ghost; *skull:
skull-crossbones; pumpkin: jack-o-lantern; Santa Claus: father-christmas mrs-claus; *baby; *man: man-beard; *woman;
*boy; *girl; *eye; pair of eyes: eyes; ear; nose; mouth: lips; foot; *thumbs up: thumb-up; *thumbs down: thumb-down;
*hand: raised-hand hand-with-fingers-splayed raised-hand-fingers-splayed; fist: raised-fist oncoming-fist fisted-hand;
muscle: flexed-biceps flex-bicep biceps-flexed arm-flex;

*arrow to the right: right-arrow black-rightwards-arrow arrow-right arrow-right-thick; *arrow to the left: left-arrow
leftwards-black-arrow arrow-left arrow-left-thick; *arrow up: up-arrow arrow-up-thick; *arrow down: down-arrow
arrow-down-thick; *check mark: check-mark-button heavy-check-mark ballot-bold-check check check-bold; *question mark:
red-question-mark black-question-mark white-question-mark help; exclamation mark: red-exclamation-mark
white-exclamation-mark heavy-exclaimation-mark-symbol exclamation-thick; plus sign: plus heavy-plus-sign; *stop sign:
stop-sign-outline octagonal-sign; no-entry sign: no-entry; *warning sign: warning alert triangle-exclamation;
recycling symbol: black-universal-recycling-symbol recycle; wheelchair: wheelchair-symbol manual-wheelchair
motorized-wheelchair; broken heart: heart-broken heart-crack; *flag: triangular-flag white-flag black-flag
chequered-flag flag-triangle; speech bubble: speech-balloon left-speech-bubble right-speech-bubble comment chat
message; bar chart: chart-bar;
"""

_DECORATION = re.compile(
    r"(?<!traffic)(?<!car)"
    r"-(?:bold|fill|filled|thin|light|dark|medium|default|duotone|outline|solid|variant|skin-tone|tone\d|\d+)$"
)
_PLURALS = {
    "face with its tongue out": "faces with their tongues out",
    "foot": "feet",
    "fork and knife": "forks and knives",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "maple leaf": "maple leaves",
    "mouse": "mice",
    "computer mouse": "computer mice",
    "scarf": "scarves",
    "snowman": "snowmen",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
    "mango": "mangoes",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "tornado": "tornadoes",
    "volcano": "volcanoes",
}
# One word for one thing and for several.
_UNCHANGED = frozenset(("deer", "sheep", "fish", "squid", "shrimp", "dice", "thumbs up", "thumbs down"))
# What follows the noun that the plural is made of: "cups of coffee", "arrows to the left".
_TAIL = re.compile(r" (?:of|with|to|up|down)\b.*")
# The sound decides: a "you" is no vowel, a silent h is one.
_ARTICLES = {"unicorn": "a", "hourglass": "an"}
# Things that a mirror turns into something else, or into a picture that nobody draws.
DIRECTED = frozenset(
    ("arrow to the right", "arrow to the left", "arrow up", "arrow down", "question mark", "exclamation mark",
     "check mark", "no-entry sign", "stop sign", "musical note", "clock", "calendar", "keyboard", "newspaper", "dice",
     "playing card", "thumbs up", "thumbs down", "medal", "flag", "bar chart", "banknote", "credit card",
     "speech bubble", "floppy disk", "CD")
)  # fmt: skip


def normalised(icon: str) -> str:
    """An icon's name without what tells drawings of one thing apart: variants, skin tones, numbers, hyphens.

    >>> normalised("dog-face"), normalised("thumbs-up-dark-skin-tone"), normalised("robot-2"), normalised("Hot dog")
    ('dogface', 'thumbsup', 'robot', 'hotdog')
    """
    name = icon.lower().replace(" ", "-").replace("'", "")
    while (shorter := _DECORATION.sub("", name)) != name:
        name = shorter
    return name.replace("-", "")


def _parse(table: str) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """Each name with its normalised icon names, and the common names."""
    icons: dict[str, tuple[str, ...]] = {}
    common = set()
    for entry in " ".join(table.split()).rstrip(";").split("; "):
        name, _, synonyms = entry.lstrip("*").partition(":")
        icons[name] = tuple(dict.fromkeys(normalised(icon) for icon in (name, *synonyms.split())))
        if entry.startswith("*"):
            common.add(name)
    return icons, frozenset(common)


ICONS, COMMON = _parse(_TABLE)
NAMES = tuple(ICONS)


def names_of_icons() -> Mapping[str, str]:
    """The name of each normalised icon name; an icon that two things claim is the first one's."""
    names: dict[str, str] = {}
    for name, icons in ICONS.items():
        names.setdefault(icons[0], name)
    names["phone"] = "telephone"  # every set draws a receiver
    for name, icons in ICONS.items():
        for icon in icons:
            names.setdefault(icon, name)
    return names


def with_article(name: str) -> str:
    """The name of one thing: "an apple".

    >>> with_article("owl"), with_article("hourglass"), with_article("unicorn"), with_article("cup of coffee")
    ('an owl', 'an hourglass', 'a unicorn', 'a cup of coffee')
    """
    return f"{_ARTICLES.get(name) or ('an' if name[0].lower() in 'aeiou' else 'a')} {name}"


def plural(name: str) -> str:
    """The name of several things.

    >>> plural("bus"), plural("cherry"), plural("monkey"), plural("wolf"), plural("sheep"), plural("cup of coffee")
    ('buses', 'cherries', 'monkeys', 'wolves', 'sheep', 'cups of coffee')
    """
    if name in _PLURALS:
        return _PLURALS[name]
    if name in _UNCHANGED:
        return name
    if tail := _TAIL.search(name):
        return plural(name[: tail.start()]) + tail.group()
    if name.endswith(("s", "x", "ch", "sh")):
        return f"{name}es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}s"
