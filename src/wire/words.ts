/**
 * The 256 words of codes: eight bits each. No two begin with the same three letters, so Tab completes after three, and no two are
 * within two typing slips of each other, so a slip is noticed. All are five to nine letters of everyday English.
 */
export const WORDS: readonly string[] = (
  "acorn album almond amber anchor ankle arcade arrow artist atlas attic autumn avenue badge ballet " +
  "bamboo banjo barrel beaver breeze brick bucket butter cabin cactus camera canyon carpet castle cedar " +
  "cello cherry circus clover cobweb copper cotton coyote cradle cymbal daisy dancer desert domino " +
  "donkey dragon dynamo eagle editor elbow empire engine eraser fabric falcon farmer fender fiddle " +
  "fondue forest fossil fruit funnel galaxy garlic geyser ghost goblet guitar harbor helmet heron hippo " +
  "horizon hotel hurdle husky hydrant iceberg igloo iguana incense indigo insect island ivory jaguar " +
  "jasmine jigsaw jogger journal jubilee jungle justice kayak kebab kernel ketchup kitchen koala ladder " +
  "lagoon lantern laptop lasagna leopard lettuce library lilac lizard lobster logbook lotus luggage " +
  "lunch lyric magnet mammoth marble meadow mermaid meteor mineral mitten mobile moose mosaic muffin " +
  "museum mystery napkin narwhal nebula needle nickel nugget nutmeg nylon oasis oatmeal obelisk ocean " +
  "octopus office olive omelet onion opera orange orchard origami ostrich oxygen palace pancake papaya " +
  "pasta pebble pelican pencil piano pilgrim pirate pizza plumber polka popcorn potato prairie pretzel " +
  "prism pudding pumpkin puppet puzzle pyramid quartz quilt rabbit raccoon radish railway raven recipe " +
  "reptile ribbon robot rodeo rosebud rubber runway saffron sailor sandwich sapling satchel scarf " +
  "seagull sequoia silver siren skylark slipper snorkel soccer soldier spider sponge stadium stork " +
  "sugar summit sunset sushi swallow syrup tadpole teacup temple tennis thimble thunder tiger toast " +
  "topaz tornado toucan tractor trumpet tulip tundra tuxedo typhoon unicorn utensil vacuum vanilla " +
  "village vinegar violin volcano voyage vulture waffle walnut weasel whisker widget wigwam wombat " +
  "wreath yacht yogurt zebra zigzag zodiac"
).split(" ");
