/* Classifies a picture with a network that mnc compiled to an object file. Plain C11; README.md says how to link it.
 *
 *   digits WEIGHTS PICTURE...
 *
 * Pictures are binary PGM (grey) or PPM (colour) files of the network's input size. Prints a line for each. */
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

static const char *const labels[] = DIGITS_LABELS;

/* Reads a file to an address that suits the network best, at most `size` bytes, and says how many they were. */
static void *read_file(const char *path, size_t *size) {
    /* aligned_alloc wants whole multiples of the alignment. */
    void *data = aligned_alloc(DIGITS_ALIGN, (*size + DIGITS_ALIGN - 1) / DIGITS_ALIGN * DIGITS_ALIGN);
    FILE *file = fopen(path, "rb");
    *size = data && file ? fread(data, 1, *size, file) : 0;
    if (file) fclose(file);
    return data;
}

/* Reads a picture into the network's input. Returns what is wrong with it, or NULL. */
static const char *read_picture(const char *path, float *input) {
    int kind, width, height, levels;
    FILE *file = fopen(path, "rb");
    if (!file) return "cannot be opened";
    const char *wrong = NULL;
    if (fscanf(file, "P%d %d %d %d", &kind, &width, &height, &levels) != 4 || (kind != 5 && kind != 6) || levels != 255) {
        wrong = "is not an 8-bit binary PGM or PPM file";
    } else if (width != DIGITS_INPUT_WIDTH || height != DIGITS_INPUT_HEIGHT || (kind == 5 ? 1 : 3) != DIGITS_INPUT_CHANNELS) {
        wrong = "has another size than the network's input";
    } else {
#ifdef DIGITS_MEAN
        static const float mean[] = DIGITS_MEAN, std[] = DIGITS_STD;
#endif
        fgetc(file); /* the one white space before the pixels */
        for (size_t i = 0; i < DIGITS_INPUT_LEN; i++) {
            int pixel = fgetc(file);
            if (pixel == EOF) {
                wrong = "ends too early";
                break;
            }
#ifdef DIGITS_MEAN
            size_t c = i % DIGITS_INPUT_CHANNELS;
            input[i] = ((float)pixel / 255.0f - mean[c]) / std[c];
#else
            input[i] = (float)pixel;
#endif
        }
    }
    fclose(file);
    return wrong;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s WEIGHTS PICTURE...\n", argv[0]);
        return 2;
    }
    /* One byte more than there should be, to see where there are. */
    size_t size = DIGITS_WEIGHTS_FILE_BYTES + 1;
    void *file = read_file(argv[1], &size);
    const float *weights = NULL;
    const char *bad = file ? digits_weights(file, size, &weights) : "no memory";
    if (!bad) bad = digits_weights_intact(file);
    if (bad) {
        fprintf(stderr, "%s: %s\n", argv[1], bad);
        free(file);
        return 1;
    }
    static float input[DIGITS_INPUT_LEN], output[DIGITS_OUTPUT_LEN], arena[DIGITS_ARENA_BYTES / sizeof(float) + 1];
    int failed = 0;
    for (int i = 2; i < argc; i++) {
        const char *wrong = read_picture(argv[i], input);
        if (wrong) {
            fprintf(stderr, "%s: %s\n", argv[i], wrong);
            failed = 1;
            continue;
        }
        digits_run(weights, input, output, arena);
        int best = 0;
        for (int label = 1; label < DIGITS_OUTPUT_LEN; label++) {
            if (output[label] > output[best]) best = label;
        }
        printf("%s: %s\n", argv[i], labels[best]);
    }
    free(file);
    return failed;
}
