"""The words an invented shop is made of: what it sells, in which materials and styles, and what goes with what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STYLES: Final = ("rustic", "modern", "playful", "classic")

_MASS_NOUNS: Final = {"Loose Tea", "Handlebar Tape", "Chain Oil", "Bunting", "Trail Mix", "Yarn", "Fabric"}


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of product. `lasts_days` is how long one is enough, 0 for things that are bought once."""

    slug: str
    category: str
    noun: str
    emoji: str
    family: str  # of adjectives
    materials: tuple[str, ...]
    sizes: tuple[str, ...]  # the second is dearer
    price: tuple[float, float]
    use: str
    goes_with: tuple[str, ...]
    lasts_days: int = 0
    coloured: bool = False

    @property
    def path(self) -> str:
        """Where it stands in the shop, such as "Kitchen > Saucepans"."""
        if self.noun.endswith("s") or self.noun in _MASS_NOUNS:
            return f"{self.category} > {self.noun}"
        return f"{self.category} > {self.noun}{'es' if self.noun.endswith('sh') else 's'}"


ADJECTIVES: Final = {
    "ceramic": (
        ("Speckled", "Hand-Thrown", "Salt-Glazed", "Ash-Glazed"),
        ("Matt White", "Straight-Sided", "Slimline", "Two-Tone"),
        ("Polka-Dot", "Fox-Painted", "Rainbow-Rimmed", "Wobbly"),
        ("Willow-Pattern", "Gold-Rimmed", "Fluted", "Rose-Sprigged"),
    ),
    "glass": (
        ("Seeded-Glass", "Recycled-Glass", "Bubbled-Glass", "Sea-Green Glass"),
        ("Double-Walled", "Ribbed", "Stackable", "Smoked-Glass"),
        ("Candy-Stripe", "Flamingo", "Lemon-Print", "Polka-Dot"),
        ("Cut-Glass", "Etched", "Fluted", "Apothecary"),
    ),
    "metal": (
        ("Hammered", "Forged", "Weathered", "Antiqued"),
        ("Brushed", "Seamless", "Slimline", "Folded"),
        ("Candy-Coloured", "Dotted", "Zigzag", "Confetti"),
        ("Polished", "Engraved", "Fluted", "Beaded"),
    ),
    "wood": (
        ("Rough-Hewn", "Reclaimed", "Live-Edge", "Knotty"),
        ("Clean-Lined", "Angular", "Modular", "Slimline"),
        ("Hedgehog", "Rainbow", "Whale", "Dotted"),
        ("Turned", "Panelled", "Inlaid", "Waxed"),
    ),
    "textile": (
        ("Chunky", "Homespun", "Stonewashed", "Nubbly"),
        ("Plain", "Colour-Block", "Fine-Line", "Waffle"),
        ("Pom-Pom", "Dinosaur", "Candy-Stripe", "Star-Print"),
        ("Herringbone", "Gingham", "Tartan", "Paisley"),
    ),
    "gear": (
        ("Backwoods", "Heritage", "Trail-Worn", "Waxed"),
        ("Ultralight", "Low-Profile", "Minimal", "Aero"),
        ("Neon", "Sunshine", "Zigzag", "Happy-Days"),
        ("Touring", "Club", "Expedition", "Grand Tour"),
    ),
    "food": (
        ("Wood-Smoked", "Hillside", "Farmhouse", "Wild-Picked"),
        ("Single-Origin", "Small-Batch", "Bright", "Pure"),
        ("Birthday", "Moonlight", "Holiday", "Giggling"),
        ("Breakfast", "Royal", "Afternoon", "Old-Style"),
    ),
    "paper": (
        ("Deckle-Edged", "Kraft", "Pressed-Flower", "Hand-Stitched"),
        ("Dot-Grid", "Plain", "Lay-Flat", "Undated"),
        ("Cat-Print", "Confetti", "Space-Print", "Fruit-Print"),
        ("Marbled", "Gilt-Edged", "Monogram", "Laid-Paper"),
    ),
    "plant": (
        ("Heirloom", "Cottage", "Hedgerow", "Meadow"),
        ("Compact", "Balcony", "Drought-Proof", "Year-Round"),
        ("Giant", "Rainbow", "Butterfly", "Tickle-Me"),
        ("Old English", "Prize", "Walled-Garden", "Show-Bench"),
    ),
    "toy": (
        ("Hand-Carved", "Farmyard", "Forest", "Woodland"),
        ("Geometric", "Monochrome", "Pastel", "Abstract"),
        ("Dinosaur", "Rocket", "Giggling", "Unicorn"),
        ("Nursery", "Old-Time", "Fairground", "Storybook"),
    ),
    "soap": (
        ("Oatmeal", "Moorland", "Seaweed", "Beeswax"),
        ("Pure", "Clay", "Charcoal", "Mineral"),
        ("Bubblegum", "Glitter", "Fizzy", "Rainbow"),
        ("Apothecary", "Barbershop", "Rosewater", "Old-Time"),
    ),
    "light": (
        ("Hammered", "Driftwood", "Barn", "Lantern"),
        ("Linear", "Globe", "Dimmable", "Slimline"),
        ("Mushroom", "Cloud", "Rabbit", "Confetti"),
        ("Pleated", "Banker's", "Scalloped", "Candlestick"),
    ),
    "book": (
        ("The Farmhouse", "The Hedgerow", "The Slow", "The Homestead"),
        ("The Everyday", "The Ten-Minute", "The Simple", "The Modern"),
        ("The Silly", "The Runaway", "The Upside-Down", "The Giggling"),
        ("The Complete", "The Grand", "The Collected", "The Heirloom"),
    ),
}  # fmt: skip

BRANDS: Final = (
    ("Hollow Oak", "Barley & Birch", "Mossbank", "Farrow Lane", "Thistledown", "Old Mill Works"),
    ("Plainly", "Studio Halv", "Norrskog", "Eightfold", "Kantlinje", "Quiet Objects"),
    ("Pip & Pom", "Jolly Otter", "Kite & Company", "Sunny Side", "Little Fox", "Wobblewood"),
    ("Ashworth & Daughters", "Penhallow", "Marlowe House", "Grace & Hartley", "Old Albion", "Fairfax Bros."),
)
COLOURS: Final = (
    (("Moss Green", 95), ("Clay", 18), ("Oat", 42), ("Heather", 285)),
    (("Graphite", 220), ("Sand", 40), ("Ink", 232), ("Chalk", 200)),
    (("Sunshine Yellow", 50), ("Coral", 8), ("Sky Blue", 200), ("Raspberry", 338)),
    (("Navy", 226), ("Burgundy", 346), ("Bottle Green", 155), ("Ivory", 52)),
)
CHARACTER: Final = (
    (
        "Made in small batches, so no two are quite alike.",
        "Honest, sturdy and better with age.",
        "With the marks of the hand left in.",
    ),
    (
        "Plain lines and nothing that is not needed.",
        "Quiet to look at, easy to use.",
        "Thought through down to the last edge.",
    ),
    (
        "Made to cheer up a grey morning.",
        "A bit silly, and proud of it.",
        "For everyone who has not quite grown up.",
    ),
    (
        "The same in this house for generations.",
        "Made the way it always was.",
        "A present that is kept for years.",
    ),
)
FIRST_NAMES: Final = (
    "ada", "ben", "cleo", "dara", "emil", "fay", "gus", "hana", "ida", "jon", "kira", "leo", "mona", "nils", "olga",
    "pia", "quinn", "rosa", "sam", "tove", "uma", "vera", "will", "yara", "zoe",
)  # fmt: skip

KINDS: Final = (
    Kind("teapot", "Tea & Coffee", "Teapot", "🫖", "ceramic", ("Stoneware", "Porcelain"), ("0.6 l", "1.2 l"),
         (24, 62),
         "Pours without a drip and keeps leaf tea warm to the last cup.", ("loose-tea", "mug", "tea-towel")),
    Kind("loose-tea", "Tea & Coffee", "Loose Tea", "🍃", "food", ("Assam", "Earl Grey", "Sencha", "Darjeeling"),
         ("100 g", "250 g"), (6, 19), "Whole leaves in a tin that closes well.", ("teapot", "mug"), 18),
    Kind("coffee-beans", "Tea & Coffee", "Coffee Beans", "🫘", "food", ("Guatemala", "Ethiopia", "Espresso"),
         ("250 g", "1 kg"), (8, 26), "Roasted on Mondays and sent on Tuesdays.", ("dripper", "mug"), 16),
    Kind("mug", "Tea & Coffee", "Mug", "☕", "ceramic", ("Stoneware", "Porcelain"), ("300 ml", "450 ml"),
         (9, 24), "Sits well in the hand and goes in the dishwasher.", ("loose-tea", "coffee-beans", "teapot")),
    Kind("dripper", "Tea & Coffee", "Coffee Dripper", "⏳", "ceramic", ("Stoneware", "Porcelain"),
         ("one cup", "four cups"), (18, 42), "For filter coffee by the cup, slowly.", ("coffee-beans", "mug")),
    Kind("chopping-board", "Kitchen", "Chopping Board", "🔪", "wood", ("Oak", "Walnut"), ("small", "large"),
         (18, 58), "End-grain, kind to knives, oiled and ready.", ("tea-towel", "mixing-bowl", "cookbook")),
    Kind("mixing-bowl", "Kitchen", "Mixing Bowl", "🥣", "ceramic", ("Stoneware", "Earthenware"),
         ("1.5 l", "3 l"),
         (16, 48), "Wide enough for dough, with a lip for pouring.", ("cookbook", "storage-jar")),
    Kind("tea-towel", "Kitchen", "Tea Towel", "🍽️", "textile", ("Linen", "Cotton"), ("single", "set of two"),
         (8, 22), "Dries glasses without fluff.", ("chopping-board", "teapot"), coloured=True),
    Kind("saucepan", "Kitchen", "Saucepan", "🍲", "metal", ("Copper", "Steel"), ("16 cm", "20 cm"), (35, 120),
         "Heats evenly on every hob, induction too.", ("cookbook", "chopping-board")),
    Kind("storage-jar", "Kitchen", "Storage Jar", "🫙", "glass", ("Cork-Top", "Clip-Top"), ("0.5 l", "1 l"),
         (8, 22), "Keeps flour, tea and biscuits dry.", ("mixing-bowl", "loose-tea", "coffee-beans")),
    Kind("seeds", "Garden", "Seeds", "🌱", "plant", ("Tomato", "Sweet Pea", "Sunflower", "Runner Bean"),
         ("packet", "collection box"), (2.5, 9), "With sowing notes for every month.", ("plant-pot", "trowel"), 25),
    Kind("plant-pot", "Garden", "Plant Pot", "🪴", "ceramic", ("Terracotta", "Stoneware"), ("14 cm", "22 cm"),
         (9, 38), "Frost-proof, with a hole and a saucer.", ("seeds", "watering-can", "trowel")),
    Kind("watering-can", "Garden", "Watering Can", "💧", "metal", ("Zinc", "Steel"), ("5 l", "9 l"), (22, 55),
         "Balanced when full, with a rose for seedlings.", ("seeds", "plant-pot")),
    Kind("trowel", "Garden", "Hand Trowel", "🌿", "metal", ("Steel", "Bronze"), ("short handle", "long handle"),
         (12, 40), "Cuts through clay and comes out clean.", ("seeds", "plant-pot", "garden-guide")),
    Kind("bird-feeder", "Garden", "Bird Feeder", "🐦", "wood", ("Cedar", "Oak"), ("small", "large"), (18, 45),
         "For tits and finches, easy to fill and to clean.", ("garden-guide", "plant-pot")),
    Kind("bike-light", "Cycling", "Bicycle Light", "🚲", "gear", ("Front", "Rear"), ("USB", "dynamo"), (18, 70),
         "Seen from far away and does not dazzle.", ("pannier", "cycling-cap")),
    Kind("pannier", "Cycling", "Pannier", "👜", "gear", ("Canvas", "Recycled Nylon"), ("12 l", "20 l"),
         (45, 130), "Clicks on with one hand and keeps the rain out.", ("bike-light", "cycling-atlas")),
    Kind("bar-tape", "Cycling", "Handlebar Tape", "🚴", "gear", ("Cork", "Cotton"), ("one pair",), (12, 32),
         "Grips when wet and takes the buzz out of the road.", ("chain-oil", "cycling-cap"), coloured=True),
    Kind("cycling-cap", "Cycling", "Cycling Cap", "🧢", "textile", ("Cotton", "Merino"), ("S/M", "L/XL"),
         (16, 38), "Fits under a helmet; peak up or down.", ("bike-light", "bar-tape"), coloured=True),
    Kind("chain-oil", "Cycling", "Chain Oil", "🛢️", "gear", ("Dry-Weather", "Wet-Weather"), ("60 ml", "120 ml"),
         (7, 16), "Stays on the chain and off the trousers.", ("bar-tape", "bike-light"), 30),
    Kind("notebook", "Desk", "Notebook", "📓", "paper", ("Cloth-Bound", "Soft-Cover"), ("A5", "A4"), (8, 26),
         "Paper that takes ink on both sides.", ("fountain-pen", "pencils"), 35),
    Kind("fountain-pen", "Desk", "Fountain Pen", "🖋️", "metal", ("Brass", "Steel"), ("fine nib", "medium nib"),
         (18, 90), "Writes at once, even after a holiday.", ("notebook", "letter-set")),
    Kind("desk-tray", "Desk", "Desk Tray", "🗂️", "wood", ("Oak", "Beech"), ("A4", "wide"), (18, 48),
         "Gives letters and cables a place.", ("notebook", "pencils", "table-lamp")),
    Kind("pencils", "Desk", "Pencil Set", "✏️", "wood", ("Cedar", "Lime Wood"), ("6 pencils", "12 pencils"),
         (6, 18), "Sharpens to a long point and does not break.", ("notebook", "desk-tray"), 40),
    Kind("letter-set", "Desk", "Letter Set", "✉️", "paper", ("Cotton", "Recycled"), ("20 sheets", "40 sheets"),
         (9, 28), "Sheets and lined envelopes in a box.", ("fountain-pen",), 45),
    Kind("blocks", "Kids' Room", "Building Blocks", "🧱", "toy", ("Beech", "Maple"), ("24 pieces", "60 pieces"),
         (18, 55), "Smooth edges, water-based colours, hours of towers.", ("puzzle", "picture-book")),
    Kind("soft-toy", "Kids' Room", "Soft Toy", "🧸", "toy", ("Plush", "Knitted"), ("20 cm", "35 cm"), (14, 38),
         "Washable, and comes with a name tag.", ("picture-book", "night-light")),
    Kind("night-light", "Kids' Room", "Night Light", "🌙", "light", ("Silicone", "Porcelain"),
         ("USB", "battery"), (16, 42), "Dims by itself after twenty minutes.", ("soft-toy", "picture-book")),
    Kind("bunting", "Kids' Room", "Bunting", "🎏", "textile", ("Cotton", "Felt"), ("3 m", "5 m"), (10, 24),
         "For birthdays, and for no reason at all.", ("soft-toy", "string-lights"), coloured=True),
    Kind("puzzle", "Kids' Room", "Puzzle", "🧩", "toy", ("Wooden", "Floor"), ("20 pieces", "48 pieces"), (9, 26),
         "Thick pieces for small hands.", ("blocks", "picture-book")),
    Kind("tent", "Camping", "Tent", "⛺", "gear", ("Canvas", "Ripstop"), ("two-person", "four-person"),
         (140, 420), "Up in ten minutes and dry through a night of rain.", ("sleeping-bag", "lantern")),
    Kind("sleeping-bag", "Camping", "Sleeping Bag", "🛌", "gear", ("Down", "Wool-Filled"), ("regular", "long"),
         (80, 260), "Warm at freezing point, small in the rucksack.", ("tent", "camp-blanket")),
    Kind("camp-stove", "Camping", "Camp Stove", "🔥", "gear", ("Gas", "Wood-Burning"),
         ("one burner", "two burners"),
         (45, 140), "Boils a litre in four minutes, wind or not.", ("trail-mix", "tent", "mug")),
    Kind("lantern", "Camping", "Camping Lantern", "🏮", "light", ("Tin", "Brass"), ("rechargeable", "candle"),
         (22, 60), "Warm light for a whole evening.", ("tent", "camp-blanket")),
    Kind("camp-blanket", "Camping", "Camp Blanket", "🏕️", "textile", ("Wool", "Fleece"),
         ("130 x 180 cm", "180 x 200 cm"),
         (35, 95), "For the fire first and the sofa later.", ("lantern", "sleeping-bag"), coloured=True),
    Kind("trail-mix", "Camping", "Trail Mix", "🥜", "food", ("Almond", "Cranberry", "Cocoa"), ("200 g", "500 g"),
         (5, 14), "Nuts and fruit in a bag that closes again.", ("camp-stove", "tent"), 20),
    Kind("yarn", "Yarn & Sewing", "Yarn", "🧶", "textile", ("Merino", "Alpaca", "Cotton"), ("50 g", "100 g"),
         (6, 22),
         "Soft, even and dyed in one lot.", ("needles", "project-bag", "pattern-book"), 14, coloured=True),
    Kind("needles", "Yarn & Sewing", "Knitting Needles", "🪡", "wood", ("Birch", "Rosewood"), ("4 mm", "6 mm"),
         (8, 24), "Warm to the touch, with smooth tips.", ("yarn", "pattern-book")),
    Kind("project-bag", "Yarn & Sewing", "Project Bag", "👝", "textile", ("Canvas", "Linen"), ("small", "large"),
         (14, 36), "A shawl, its yarn and its needles in one place.", ("yarn", "needles"), coloured=True),
    Kind("fabric", "Yarn & Sewing", "Fabric", "🧵", "textile", ("Cotton", "Linen", "Corduroy"), ("1 m", "3 m"),
         (9, 42), "Pre-washed and cut straight.", ("scissors", "pattern-book"), 28, coloured=True),
    Kind("scissors", "Yarn & Sewing", "Sewing Scissors", "✂️", "metal", ("Steel", "Brass"), ("12 cm", "20 cm"),
         (12, 45), "Cuts silk without pulling a thread.", ("fabric", "project-bag")),
    Kind("soap", "Bath", "Soap Bar", "🧼", "soap", ("Lavender", "Sea Salt", "Lemon Verbena"), ("100 g", "200 g"),
         (4, 13), "Cured for six weeks, gentle to dry skin.", ("soap-dish", "bath-towel"), 20),
    Kind("bath-towel", "Bath", "Bath Towel", "🛀", "textile", ("Cotton", "Linen"), ("70 x 140 cm", "100 x 150 cm"),
         (18, 52), "Thirsty, and soft after fifty washes.", ("bath-mat", "soap"), coloured=True),
    Kind("bath-salts", "Bath", "Bath Salts", "🧂", "soap", ("Eucalyptus", "Rose", "Pine"), ("300 g", "600 g"),
         (9, 24), "A handful for a long evening.", ("candle", "bath-towel"), 24),
    Kind("soap-dish", "Bath", "Soap Dish", "🫧", "ceramic", ("Stoneware", "Porcelain"), ("round", "oval"),
         (8, 22), "Drains well, so that soap lasts.", ("soap",)),
    Kind("bath-mat", "Bath", "Bath Mat", "👣", "textile", ("Cotton", "Cork-Backed"), ("50 x 80 cm", "60 x 100 cm"),
         (16, 44), "Warm feet on cold tiles.", ("bath-towel", "soap-dish"), coloured=True),
    Kind("table-lamp", "Lighting", "Table Lamp", "💡", "light", ("Linen", "Ceramic"), ("35 cm", "50 cm"),
         (45, 160), "Light to read by that does not glare.", ("candle-holder", "desk-tray")),
    Kind("pendant", "Lighting", "Pendant Light", "🪔", "light", ("Rattan", "Enamel"), ("30 cm", "45 cm"),
         (55, 190), "Hangs low over a table and makes it a room.", ("table-lamp", "string-lights")),
    Kind("candle", "Lighting", "Scented Candle", "🕯️", "soap", ("Fig", "Cedarwood", "Honey"), ("180 g", "300 g"),
         (12, 38), "Burns for forty hours with a cotton wick.", ("candle-holder", "bath-salts"), 22),
    Kind("string-lights", "Lighting", "String Lights", "✨", "light", ("Copper", "Cotton-Ball"), ("5 m", "10 m"),
         (14, 36), "For balconies, shelves and December.", ("bunting", "candle")),
    Kind("candle-holder", "Lighting", "Candle Holder", "🕯️", "metal", ("Brass", "Iron"), ("single", "set of three"),
         (14, 44), "Stands firm and catches the wax.", ("candle",)),
    Kind("cookbook", "Books", "Cookbook", "📕", "book", ("Bread", "Soup", "One-Pot", "Sunday Lunch"),
         ("paperback", "hardback"), (12, 34), "Eighty recipes that work the first time.", ("mixing-bowl", "saucepan")),
    Kind("garden-guide", "Books", "Garden Guide", "📗", "book", ("Herb", "Rose", "Orchard"),
         ("paperback", "hardback"),
         (12, 34), "What to do, month by month, with drawings.", ("seeds", "trowel")),
    Kind("picture-book", "Books", "Picture Book", "📖", "book", ("Bear", "Moon", "Tractor"),
         ("paperback", "board book"),
         (8, 20), "To be read aloud, again and again.", ("soft-toy", "night-light")),
    Kind("cycling-atlas", "Books", "Cycling Atlas", "🗺️", "book", ("Coast", "Mountain", "River"),
         ("paperback", "spiral-bound"),
         (14, 36), "Fifty quiet routes with every café on the way.", ("pannier", "bike-light")),
    Kind("pattern-book", "Books", "Pattern Book", "📘", "book", ("Knitting", "Quilting", "Crochet"),
         ("paperback", "hardback"),
         (12, 32), "Thirty patterns, from first stitch to heirloom.", ("yarn", "fabric", "needles")),
    Kind("cushion", "Bedroom", "Cushion", "🛋️", "textile", ("Velvet", "Linen"), ("45 cm", "60 cm"), (18, 48),
         "Plump, with a cover that comes off.", ("throw", "duvet-cover"), coloured=True),
    Kind("duvet-cover", "Bedroom", "Duvet Cover", "🛏️", "textile", ("Linen", "Percale"), ("single", "double"),
         (48, 140), "Cool in summer, cosy in winter, buttons that hold.", ("cushion", "throw"), coloured=True),
    Kind("throw", "Bedroom", "Throw", "🧣", "textile", ("Lambswool", "Cotton"), ("130 x 170 cm", "150 x 200 cm"),
         (32, 110), "For the end of the bed and the end of the day.", ("cushion", "candle"), coloured=True),
    Kind("basket", "Bedroom", "Storage Basket", "🧺", "textile", ("Seagrass", "Willow"), ("small", "large"),
         (16, 46), "Laundry, toys or firewood: it takes all of it.", ("throw", "wall-hook")),
    Kind("wall-hook", "Bedroom", "Wall Hook", "🪝", "metal", ("Brass", "Iron"), ("single", "row of four"),
         (8, 32), "Holds a winter coat, screws included.", ("basket",)),
)  # fmt: skip
